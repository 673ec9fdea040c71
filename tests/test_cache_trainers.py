"""What of a training is shared by its kind: what it starts from, its versions, whole weights; and what a build without work costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Repo
from ollamake.trainers.command import CommandTrainer
from stepping_repo import TRAIN, receipt, record, steps

CACHE = "version: 1\ncache: {url: cache}\n"


def forget() -> None:
    """Leave nothing of what was built, as in a fresh clone."""
    for folder in ("adapters", "weights", "build", ".ollamake"):
        shutil.rmtree(folder, ignore_errors=True)
    Path("models.lock").unlink()


def test_what_begins_with_the_adapter_that_lies_there_is_not_shared(stepping: Repo) -> None:
    stepping.replace("version: 1\n", CACHE)
    stepping.replace(TRAIN, TRAIN.replace("rank: 2", "rank: 2, start_from: previous"))
    assert stepping.doit("train:legal").code == 0
    assert not list(Path("cache").glob("adapters/*/*"))
    assert "legal  not shared: start_from: previous" in stepping.doit("cache", "status").out


def test_what_starts_from_another_model_is_found_by_its_adapter(stepping: Repo) -> None:
    stepping.replace("version: 1\n", CACHE)
    stepping.replace("  legal:\n    base: tiny\n", "  legal:\n    base: tiny\n    train: {start_from: sales}\n")
    assert stepping.doit("train:legal").code == 0
    prints = Path("adapters/legal/records.xxh3").read_bytes()
    start = receipt()["start"]
    steps()
    forget()
    done = stepping.doit("train:legal")
    assert (done.code, steps()) == (0, []), done.out
    assert done.out.splitlines()[-1].startswith("2 adapters from the cache (")
    assert (Path("adapters/legal/records.xxh3").read_bytes(), receipt()["start"]) == (prints, start)
    stepping.records("tone").write_text(record(100), encoding="utf-8")
    assert stepping.doit("train:legal").code == 0
    assert [line for line in steps() if line.split()[1] in {"start", "base"}][1].startswith("legal start ")


def test_versions_are_part_of_it_where_they_are_pinned(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.replace("version: 1\n", CACHE)
    for version, trained in (("1", 1), ("2", 1)):
        monkeypatch.setattr(CommandTrainer, "versions", lambda *_, version=version: {"engine": version})
        assert repo.doit("train:legal").code == 0
        assert len(repo.trainings) == trained
        assert '"engine": "1"' in Path("models.lock").read_text(encoding="utf-8")  # that of who trained
        forget()
    repo.replace("rank: 2,", "rank: 2, pin: versions,")
    for version, trained in (("1", 2), ("2", 3), ("1", 3)):
        monkeypatch.setattr(CommandTrainer, "versions", lambda *_, version=version: {"engine": version})
        assert repo.doit("train:legal").code == 0
        assert len(repo.trainings) == trained
        forget()


def test_whole_weights_are_shared(repo: Repo, stand_in: Path) -> None:
    repo.replace("version: 1\n", CACHE)
    repo.replace("    data: [shared]\n", f"    data: [shared]\n    train: {{trainer: llama.cpp, env: {stand_in}, learning_rate: 1e-5}}\n")
    assert repo.doit("build", "legal").code == 0
    weights = Path("weights/legal/model.gguf").read_bytes()
    forget()
    shutil.rmtree(stand_in)  # who takes needs no trainer
    done = repo.doit("train:legal")
    assert done.code == 0, done.out + done.err
    assert Path("weights/legal/model.gguf").read_bytes() == weights
    assert "   legal: from the cache: trained " in done.out


def test_a_build_without_work_asks_no_cache(repo: Repo) -> None:
    repo.replace("version: 1\n", CACHE)
    assert repo.doit().code == 0
    for arguments in ([], ["train:legal"]):
        program = f"""
import sys
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from ollamake import DOIT_CONFIG, tasks_from
def task_models():
    yield from tasks_from("models.yaml")
code = DoitMain(ModuleTaskLoader(dict(DOIT_CONFIG=DOIT_CONFIG, task_models=task_models))).run({arguments})
print(code, [name for name in ("fsspec", "s3fs", "tarfile") if name in sys.modules])
"""
        Path("program.py").write_text(program, encoding="utf-8")
        done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 []", done.stdout
