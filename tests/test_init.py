"""`ollamake init`: a new repo that builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HERE, Repo
from datasets import checked
from fake_ollama import FakeOllama
from ollamake.catalog.load import load_catalog
from ollamake.commands.init import main

README = (HERE.parent / "README.md").read_text(encoding="utf-8")
PLAIN = ["dodo.py", "models.yaml", "datasets/support/first.jsonl", ".gitignore", ".gitattributes"]
EXAMPLE = ["dodo.py", "models.yaml", "datasets/bakery.jsonl", ".gitignore", ".gitattributes"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def doit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "doit", *arguments], capture_output=True, text=True, check=False)


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_new_repo_has_all_that_doit_needs(
    here: Path, capsys: pytest.CaptureFixture[str], ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["init"]) == 0
    assert capsys.readouterr().out == (
        "wrote  dodo.py\n"
        "wrote  models.yaml\n"
        "wrote  datasets/support/first.jsonl\n"
        "wrote  .gitignore\n"
        "wrote  .gitattributes\n"
        "next:\n"
        "  put the GGUF of a llama-type base at bases/base.gguf, and your records into datasets/support/\n"
        "  doit plan            # what a build would do\n"
        "  doit                 # builds every model in models.yaml\n"
    )
    assert written(here) == sorted(PLAIN)
    monkeypatch.setenv("OLLAMA_HOST", ollama.host)
    listed = doit("list", "--all")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()][1::2] == [
        *("convert:support-bot", "package:support-bot", "register:support-bot", "test:support-bot", "train:support-bot", "validate:support"),
    ]
    planned = doit("plan")
    assert (planned.returncode, planned.stderr) == (4, "")
    assert "\n.  train:support-bot     ?  not built yet; base my-base is not there\n" in planned.stdout
    built = doit("validate")
    assert (built.returncode, built.stdout) == (0, ".  validate:support  (not built yet)\n")


def test_the_dodo_file_is_that_of_the_readme(here: Path) -> None:
    block = re.search(r"^    from ollamake import(?:.*\n)+?    +yield from .*$", README, flags=re.MULTILINE)
    assert block is not None
    main(["init"])
    assert Path("dodo.py").read_text(encoding="utf-8") == "".join(f"{line.removeprefix('    ')}\n" for line in block[0].splitlines())


def test_a_folder_is_made_and_named_in_what_to_type_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "models/desk"]) == 0
    assert written(here / "models/desk") == sorted(PLAIN)
    assert "next:\n  cd models/desk\n" in capsys.readouterr().out


def test_what_to_type_next_can_be_typed_whatever_the_folder_is_called(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "my repo's"]) == 0
    assert "next:\n  cd 'my repo'\"'\"'s'\n" in capsys.readouterr().out


def test_what_is_there_stays_as_it_is_and_what_it_lacks_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dodo.py").write_text("def task_mine():\n    return {'actions': []}\n", encoding="utf-8")
    Path(".gitignore").write_text("/build/\n*.pyc\n", encoding="utf-8")
    assert main(["init"]) == 0
    assert capsys.readouterr().out.startswith(
        "kept   dodo.py, which is there already\n"
        "       add to it: from ollamake import DOIT_CONFIG, tasks_from\n"
        '       add to it: yield from tasks_from("models.yaml")\n'
        "wrote  models.yaml\n"
        "wrote  datasets/support/first.jsonl\n"
        "kept   .gitignore, which is there already\n"
        "       add to it: /.ollamake/\n"
        "       add to it: /bases/\n"
        "wrote  .gitattributes\n"
    )
    assert Path("dodo.py").read_text(encoding="utf-8").startswith("def task_mine")
    assert Path(".gitignore").read_text(encoding="utf-8") == "/build/\n*.pyc\n"


def test_a_catalog_that_is_there_gets_no_datasets_of_others(here: Path) -> None:
    Path("models.yaml").write_text("version: 1\n", encoding="utf-8")
    assert main(["init", "--example"]) == 0
    assert written(here) == [".gitattributes", ".gitignore", "dodo.py", "models.yaml"]
    assert Path("models.yaml").read_text(encoding="utf-8") == "version: 1\n"


def test_a_second_run_says_that_all_is_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init"])
    before = {path: (here / path).read_bytes() for path in PLAIN}
    capsys.readouterr()
    assert main(["init"]) == 0
    assert capsys.readouterr().out == (
        "".join(f"kept   {path}, which is there already\n" for path in PLAIN)
        + "nothing to write: all is there\n"
        + "next:\n  doit plan            # what a build would do\n  doit                 # builds every model in models.yaml\n"
    )
    assert {path: (here / path).read_bytes() for path in PLAIN} == before


def test_a_folder_that_is_none_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")
    assert main(["init", "file"]) == 3
    assert capsys.readouterr().err == "file: a file\n  fix: name a folder: ollamake init DIR\n"


@pytest.mark.parametrize("kind", ["plain", "example"])
def test_its_catalog_has_no_fault_and_no_warning(here: Path, kind: str) -> None:
    main(["init", *(["--example"] if kind == "example" else [])])
    catalog = load_catalog(Path("models.yaml"), trainers=["peft"])
    assert catalog.warnings == ()
    for dataset in catalog.datasets:
        assert checked(dataset)[0].faults == []


def test_the_example_builds(
    here: Path, capsys: pytest.CaptureFixture[str], ollama: FakeOllama, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing is built by the live test; here with a tiny base, and a trainer that counts."""
    assert main(["init", "--example"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(
        "next:\n"
        "  doit                 # fetches the base, trains for about a minute, and makes bakery-desk in Ollama\n"
        '  doit ask --beside-base bakery-desk "When do you open?"\n'
    )
    assert written(here) == sorted(EXAMPLE)
    monkeypatch.setenv("OLLAMA_HOST", ollama.host)
    Path("bases").mkdir()
    shutil.copy(tiny_base, "bases/SmolLM2-135M-Instruct.Q4_1.gguf")
    trainer = (
        f'trainer: command, command: [{sys.executable}, {HERE}/counting_trainer.py, "{{text}}", "{{out}}", "{{recipe}}"], target_modules: [q_proj], '
    )
    Repo(here, ollama).replace("train: {learning_rate", f"train: {{{trainer}learning_rate")
    done = doit()
    assert (done.returncode, done.stderr) == (0, "")
    assert "-- base" in done.stdout.splitlines()  # it is there
    assert done.stdout.splitlines()[-1].startswith("1 model: 1 rebuilt in ")
    assert doit().stdout.splitlines()[-1].startswith("1 model: 1 fresh")
    (question,) = re.findall(r'bakery-desk "(.*)"', said)
    assert question in Path("datasets/bakery.jsonl").read_text(encoding="utf-8")


def test_ollamake_alone_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main([]) == 0
    assert "    init      write a new repo that builds\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"ollamake {version('ollamake')}\n")


def test_a_command_of_doits_is_said_to_be_that(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "help desk"]) == 2
    said = "ollamake has no command 'build'\n  fix: `doit build 'help desk'`: in a repo, everything but `ollamake init` is doit's\n"
    assert capsys.readouterr().err == said
    assert list(here.iterdir()) == []
