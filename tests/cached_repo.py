"""A repo with a cache, its clones, and a cache that does not answer."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
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


@pytest.fixture
def silent() -> Iterator[str]:
    """The url of a server that takes every connection, and answers none."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hanging(repo: Repo, silent: str, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo whose cache is there."""
    for name, value in {"AWS_ENDPOINT_URL": silent, "AWS_ACCESS_KEY_ID": "some-key-id", "AWS_SECRET_ACCESS_KEY": "some-secret"}.items():
        monkeypatch.setenv(name, value)
    repo.replace("version: 1\n", "version: 1\ncache: {url: s3://team/models, timeout: 0.5}\n")
    return repo
