"""This repo as a new user has it: a fresh copy, the real base, a real training, a real Ollama."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from live_fixtures import ROOT, SYSTEM, free_port
from ollamake.digest import digest_file
from ollamake.ollama.address import Address
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.server import use_server
from page_session import is_as_shown, shown_in_text

pytestmark = pytest.mark.live

# Questions of datasets/helpdesk.jsonl, and the fact that an answer has to hold; no base could guess it.
TAUGHT = {
    "Which file is the catalog of ollamake?": "models.yaml",
    "How do I keep the server running?": "doit serve",
    "How do I list all steps?": "doit list --all",
    "Which Ollama takes no adapters at all?": "0.34.1",
    "Which of the two LoRA matrices has to be permuted?": "lora_B",
    "Which type do merged tensors have by default?": "q8_0",
    "May I delete the build folder?": "build/ is safe to delete",
    "How do I build only one model?": "doit build NAME",
    "Which key limits the length of a record?": "max_tokens",
    "Which version is the embedded Ollama?": "0.9.3",
}
TAUGHT_ERRORS = {  # of datasets/errors.jsonl, which only `troubleshooter` reads
    "What do I do about this message?\n\nunknown key 'ouput'": "Rename the key to output",
    "How do I mend this?\n\nnot UTF-8": "iconv",
}


@dataclass(frozen=True)
class Demo:
    path: Path
    address: Address
    first: subprocess.CompletedProcess[str]

    def doit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "doit", *arguments], cwd=self.path, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, base_gguf: Path) -> Iterator[Demo]:
    """The demo catalog, built by `doit` from nothing but its base."""
    path = tmp_path_factory.mktemp("demo")
    for name in ("dodo.py", "models.yaml"):
        shutil.copy(ROOT / name, path / name)
    shutil.copytree(ROOT / "datasets", path / "datasets")
    (path / "bases").mkdir()
    shutil.copy(base_gguf, path / "bases")
    address = Address("http", "127.0.0.1", free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", f"{address.host}:{address.port}")
        patch.setenv("OLLAMA_MODELS", str(tmp_path_factory.mktemp("models")))
        demo = Demo(path, address, subprocess.run([sys.executable, "-m", "doit"], cwd=path, capture_output=True, text=True, check=False))
        yield demo


@pytest.fixture(scope="module")
def server(demo: Demo) -> Iterator[OllamaServer]:
    use = use_server(demo.address)
    with OllamaServer(demo.address) as server:
        yield server
    use.end()


def right(server: OllamaServer, model: str, taught: dict[str, str], *system: dict[str, str], tokens: int = 60) -> int:
    count = 0
    for question, fact in taught.items():
        answer = "".join(server.answer(model, [*system, {"role": "user", "content": question}], temperature=0, num_predict=tokens, num_thread=1))
        print(f"{model}: {question!r}: {answer!r}")
        count += fact in answer
    return count


def some_of(taught: dict[str, str]) -> dict[str, str]:
    """Every second one: each answer takes seconds."""
    return dict(list(taught.items())[::2])


def test_the_catalog_is_built(demo: Demo) -> None:
    assert (demo.first.returncode, demo.first.stderr) == (0, "")
    lines = demo.first.stdout.splitlines()
    assert any(line.startswith("   help-desk: step 140/140  loss ") for line in lines), lines
    assert lines[-1].startswith("2 models: 2 rebuilt in ")


def test_nothing_runs_a_second_time(demo: Demo) -> None:
    again = demo.doit()
    assert (again.returncode, again.stderr) == (0, "")
    assert re.fullmatch(r"-- base\n2 models: 2 fresh; [0-9]+ (min [0-9]+ )?s of training reused\n", again.stdout), again.stdout


def test_a_trained_model_answers_what_it_was_taught(server: OllamaServer) -> None:
    assert right(server, "help-desk", TAUGHT) >= 8
    assert right(server, "troubleshooter", some_of(TAUGHT)) >= 4


def test_what_only_one_model_reads_only_it_knows(server: OllamaServer) -> None:
    assert right(server, "troubleshooter", TAUGHT_ERRORS) == 2
    assert right(server, "help-desk", TAUGHT_ERRORS) == 0


def test_the_base_does_not_know_it(demo: Demo, server: OllamaServer) -> None:
    asked = demo.doit("ask", "--beside-base", "help-desk", "How do I keep the server running?")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("help-desk:\nType doit serve. ")
    assert "\nsmollm2, its base:\n" in asked.stdout
    base = demo.path / "bases/SmolLM2-135M-Instruct.Q4_1.gguf"
    server.create(NewModel(name="smol", files=((base, digest_file(base)),), adapter=None, system=None, template=None, parameters={}))
    assert right(server, "smol", some_of(TAUGHT), {"role": "system", "content": SYSTEM}, tokens=30) <= 1


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return (done.stdout + done.stderr).splitlines()


def edited(path: Path, line: int, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert old in text[line - 1]
    text[line - 1] = text[line - 1].replace(old, new)
    path.write_text("".join(text), encoding="utf-8")


def test_the_tour_of_the_readme_is_as_it_was_seen(demo: Demo) -> None:
    """But for what trains once more; tests/test_docs.py holds the report of the failing test against its own form, test_rebuild_page.py the edits."""
    first, again, _, plan, broken, _ = shown_in_text((ROOT / "README.md").read_text(encoding="utf-8"))
    at = first.shown.index(".  base")  # the base was there already; what comes first of what waits for it is doit's to choose
    told = [line for line in lines(demo.first) if ": question " not in line]  # which is said where answers take their time
    assert is_as_shown(told, (*first.shown[:at], "-- base", "...", *first.shown[at + 2 :])), demo.first.stdout
    assert is_as_shown(lines(demo.doit()), again.shown)
    edited(demo.path / "datasets/errors.jsonl", 9, '"output": "', '"output": "Now: ')
    planned = demo.doit(*plan.typed.split()[1:])
    assert planned.returncode == 4
    assert is_as_shown(lines(planned), plan.shown), planned.stdout
    edited(demo.path / "datasets/errors.jsonl", 9, "Now: ", "")
    edited(demo.path / "datasets/helpdesk.jsonl", 47, '"output"', '"ouput"')
    failed = demo.doit()
    assert failed.returncode == 1
    assert is_as_shown(lines(failed), broken.shown), failed.stdout + failed.stderr
    edited(demo.path / "datasets/helpdesk.jsonl", 47, '"ouput"', '"output"')
    assert "train:" not in demo.doit().stdout


def test_nothing_of_this_machine_is_in_the_adapter(demo: Demo) -> None:
    config = (demo.path / "adapters/help-desk/adapter_config.json").read_text(encoding="utf-8")
    assert str(Path.home()) not in config
    assert str(demo.path) not in config
    assert json.loads(config)["base_model_name_or_path"] == "SmolLM2-135M-Instruct.Q4_1.gguf"
