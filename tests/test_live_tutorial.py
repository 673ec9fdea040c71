"""The tutorial, word for word: in an empty folder, with the real base, real trainings and a real Ollama."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from live_fixtures import ROOT, free_port
from page_session import Command, File, Terminal, is_as_shown, plain, steps

PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")


@pytest.mark.live
def test_the_tutorial_is_as_it_stands(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
        "OLLAMA_MODELS": str(tmp_path / "ollama"),
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    record = os.environ.get("TUTORIAL_RECORD")  # a file into which all that is printed goes, to write the page by
    with Terminal(empty, environment) as terminal:
        for step in steps(PAGE):
            if isinstance(step, File):
                terminal.write(step)
                continue
            printed = terminal.type(step.typed)
            if record:
                with Path(record).open("a", encoding="utf-8") as file:
                    file.write("\n".join((f"$ {step.typed}", *printed, "")))
            else:
                assert is_as_shown(printed, step.shown), "\n".join((f"$ {step.typed}", *printed))


def test_what_a_page_leaves_out_is_what_it_says() -> None:
    printed = [".  train:a  (not built yet)", "   a: step 3/9  loss 1.2345  40 tokens/s  9.0 s left", "1 model: 1 rebuilt in 1 min 3 s"]
    assert is_as_shown(printed, (".  train:a  (not built yet)", "...", "1 model: 1 rebuilt in 26 s"))
    assert not is_as_shown(printed, (".  train:b  (not built yet)", "...", "1 model: 1 rebuilt in 26 s"))
    assert not is_as_shown(printed, ("...", "2 models: 1 rebuilt in 26 s"))
    assert not is_as_shown(printed, (printed[0], printed[2]))
    assert plain("innkeeper  fresh  3 min  1a2b3c4d5e6f  http://127.0.0.1:18431") == "innkeeper  fresh  TIME  DIGEST  http://SERVER"


def test_a_page_is_read_in_its_order() -> None:
    page = 'Text.\n\n```yaml title="a/b.yaml"\nx: 1\n```\n\n```console\n$ cat a/b.yaml\nx: 1\n$ false\n$ echo $?\n1\n```\n'
    assert list(steps(page)) == [File("a/b.yaml", "x: 1\n"), Command("cat a/b.yaml", ("x: 1",)), Command("false", ()), Command("echo $?", ("1",))]


def test_the_shell_stays_where_it_went(tmp_path: Path) -> None:
    page = 'x\n```console\n$ mkdir one && cd one\n```\n```text title="f/g"\nhi\n```\n```console\n$ cat f/g; cat nothing >/dev/null 2>&1\nhi\n$ echo $?\n1\n```\n'
    with Terminal(tmp_path, os.environ) as terminal:
        for step in steps(page):
            if isinstance(step, File):
                terminal.write(step)
            else:
                assert is_as_shown(terminal.type(step.typed), step.shown)
    assert (tmp_path / "one/f/g").read_text(encoding="utf-8") == "hi\n"
