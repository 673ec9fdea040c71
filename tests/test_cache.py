"""Trained once for everybody: what one clone has trained, another takes, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Repo


@pytest.fixture
def shared(repo: Repo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the repo's catalog has for its cache; nothing built yet."""
    folder = tmp_path_factory.mktemp("team") / "cache"
    repo.replace("version: 1\n", f"version: 1\ncache: {{url: {folder}}}\n")
    return folder


@pytest.fixture
def clone(repo: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Repo]:
    """What makes a clone of the repo as git would, with the lock or without; it is the working directory then."""

    def make(*, lock: bool = True) -> Repo:
        path = tmp_path_factory.mktemp("clone")
        for name in ("models.yaml", "datasets", "base.gguf", *(["models.lock"] if lock else [])):
            (shutil.copytree if (repo.path / name).is_dir() else shutil.copyfile)(repo.path / name, path / name)
        monkeypatch.chdir(path)
        repo.server.reset()
        return Repo(path, repo.server)

    return make


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("adapters/*/*.tar"))


@pytest.mark.parametrize("lock", [True, False])
def test_a_second_clone_trains_nothing(repo: Repo, shared: Path, clone: Callable[..., Repo], lock: bool) -> None:
    first = repo.doit()
    assert first.code == 0, first.out + first.err
    assert (repo.trainings, len(objects(shared))) == (["legal", "sales"], 2)
    other = clone(lock=lock)
    done = other.doit()
    assert done.code == 0, done.out + done.err
    assert other.trainings == []
    assert "train:legal" in done.ran
    assert done.out.splitlines()[-1].startswith("2 adapters from the cache (")
    for name in ("legal", "sales"):
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (other.path / f"adapters/{name}/{file}").read_bytes() == (repo.path / f"adapters/{name}/{file}").read_bytes()
    assert other.doit().ran == []
    assert (other.path / "models.lock").read_bytes() == (repo.path / "models.lock").read_bytes()
