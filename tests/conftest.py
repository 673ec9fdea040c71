"""What tests share. A test touches neither the user's cache nor a server of the machine's, unless it is marked `live`."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import doit.loader
import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from hypothesis import HealthCheck, settings

from fake_ollama import FakeOllama
from ollamake import DOIT_CONFIG, tasks_from
from tiny_base import write_tiny_base

pytest_plugins = [
    "live_fixtures",
    "cached_repo",
    "clouds_here",
    "distribution",
    "llama_cpp_node",
    "real_registry",
    "resuming_trainer",
    "stores_here",
    "stepping_repo",
    "tiny_models",
]
pytest.register_assert_rewrite("trainer_jobs")  # asserts for two modules of tests

HERE = Path(__file__).parent

# No deadlines: a test machine may be busy. The first text that hypothesis makes has it build its tables of Unicode, which is slow once.
settings.register_profile("ollamake", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ollamake")

DODO = """\
from ollamake import DOIT_CONFIG, tasks_from

def task_models():
    yield from tasks_from("models.yaml")
"""
CATALOG = f"""\
version: 1
defaults:
  train: {{trainer: command, command: [{sys.executable}, {HERE}/counting_trainer.py, "{{text}}", "{{out}}", "{{recipe}}"], rank: 2, target_modules: [q_proj]}}
bases:
  tiny: {{gguf: base.gguf}}
datasets:
  shared: {{files: [datasets/shared.jsonl]}}
  tone: {{files: [datasets/tone.jsonl]}}
models:
  legal:
    base: tiny
    data: [shared]
  sales:
    base: tiny
    data: [shared, tone]
    serve: {{parameters: {{temperature: 0.2}}}}
"""


@pytest.fixture(autouse=True)
def _apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep fast tests from the machine: an empty cache, no Ollama."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doit.loader, "initial_workdir", None)  # of a dodo.py that a test before this one has loaded in this process
    if request.node.get_closest_marker("live"):
        return
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)


@pytest.fixture(scope="session")
def _one_ollama() -> Iterator[FakeOllama]:
    server = FakeOllama()
    yield server
    server.close()


@pytest.fixture
def ollama(_one_ollama: FakeOllama) -> FakeOllama:
    """A stand-in server, new to each test; its address stays."""
    _one_ollama.version = "0.9.3"
    _one_ollama.reset()
    return _one_ollama


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, to be copied and not written to."""
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    write_tiny_base(path)
    return path


@dataclass(frozen=True)
class Result:
    """What a run of doit came to."""

    code: int
    out: str
    err: str

    @property
    def ran(self) -> list[str]:
        """The steps that ran, in their order."""
        return [line.split()[1] for line in self.out.splitlines() if line.startswith(".  ")]


def without_times(out: str) -> str:
    """What a run has said, without how much training it saved: on a busy machine a training of 0.1 s takes seconds."""
    return re.sub(r"; [0-9.]+ s of training reused", "", out)


class Repo:
    """A user's repo, and real doit on it, in this process."""

    def __init__(self, path: Path, server: FakeOllama) -> None:
        self.path = path
        self.server = server

    def doit(self, *arguments: str) -> Result:
        out, err = io.StringIO(), io.StringIO()

        def task_models() -> Iterator[dict[str, Any]]:
            yield from tasks_from("models.yaml")

        config = {**DOIT_CONFIG, "outfile": out}
        loader = ModuleTaskLoader({"DOIT_CONFIG": config, "task_models": task_models})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = DoitMain(loader).run(list(arguments))
        return Result(int(code or 0), out.getvalue(), err.getvalue())

    @property
    def trainings(self) -> list[str]:
        """The models that were trained since the repo is there, in their order."""
        log = self.path / "trainings.log"
        return log.read_text(encoding="utf-8").split() if log.exists() else []

    def records(self, dataset: str) -> Path:
        return self.path / f"datasets/{dataset}.jsonl"

    def replace(self, old: str, new: str, file: str = "models.yaml") -> None:
        path = self.path / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


def jsonl(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def write_repo(tmp_path: Path, tiny_base: Path) -> None:
    """Two models that share a dataset; nothing built yet."""
    (tmp_path / "models.yaml").write_text(CATALOG, encoding="utf-8")
    (tmp_path / "datasets").mkdir()
    shared = [{"instruction": f"Question {number}?", "output": f"Answer {number}."} for number in range(5)]
    tone = [{"instruction": "Be kind:", "input": f"no {number}", "output": f"Gladly not {number}."} for number in range(3)]
    (tmp_path / "datasets/shared.jsonl").write_text(jsonl(*shared), encoding="utf-8")
    (tmp_path / "datasets/tone.jsonl").write_text(jsonl(*tone), encoding="utf-8")
    shutil.copyfile(tiny_base, tmp_path / "base.gguf")


@pytest.fixture
def repo(tmp_path: Path, ollama: FakeOllama, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo with nothing built yet."""
    write_repo(tmp_path, tiny_base)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", ollama.host)
    return Repo(tmp_path, ollama)


@pytest.fixture
def other() -> Iterator[FakeOllama]:
    """A second stand-in server."""
    server = FakeOllama()
    yield server
    server.close()


@pytest.fixture
def two(repo: Repo, other: FakeOllama) -> Repo:
    """A repo whose catalog names two servers; nothing built yet."""
    repo.replace("version: 1\n", f"version: 1\nollama: {{host: [{repo.server.host}, {other.host}]}}\n")
    return repo


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory, _one_ollama: FakeOllama, tiny_base: Path) -> tuple[Path, FakeOllama]:
    path = tmp_path_factory.mktemp("built")
    write_repo(path, tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("OLLAMA_HOST", _one_ollama.host)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # a build waits for trainings of the machine's other builds
        _one_ollama.reset()
        result = Repo(path, _one_ollama).doit()
    assert result.code == 0, result.out + result.err
    return path, _one_ollama.snapshot()


def copy_of(once: tuple[Path, FakeOllama], folder: Path, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A copy, with times and inodes of its own, of a repo that was built once; the server is as that one's was."""
    path, state = once
    shutil.copytree(path, folder, dirs_exist_ok=True)
    ollama.reset(state)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OLLAMA_HOST", ollama.host)
    return Repo(folder, ollama)


@pytest.fixture
def built(_built_once: tuple[Path, FakeOllama], tmp_path: Path, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo with everything built."""
    return copy_of(_built_once, tmp_path, ollama, monkeypatch)


@pytest.fixture
def committed(built: Repo) -> Repo:
    """A built repo with one commit; adapters and base are not in git, the lock is."""
    from test_lock import git

    Path(".gitignore").write_text("/build/\n/.ollamake/\n/adapters/\n/base.gguf\n/trainings.log\n", encoding="utf-8")
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "first")
    return built


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program that behaves as llama-finetune."""
    program = tmp_path_factory.mktemp("llama.cpp") / "bin" / "llama-finetune"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/finetune_stand_in.py" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program.parent.parent
