"""Faults before, and of, a real Ollama: no wrong model is ever called latest, and the next `doit` heals. Each build goes by a proxy to a server of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from conftest import DODO, FakeOllama, Repo, write_repo
from faulty_proxy import Fault, FaultyProxy
from live_fixtures import free_port
from ollamake.digest import digest_file
from ollamake.folders import cache_folder
from ollamake.ollama import embedded
from ollamake.ollama.address import Address, digests_at, version_at

pytestmark = pytest.mark.live


@dataclass
class RealOllama:
    """The embedded Ollama as a process that a test may kill."""

    folder: Path  # where it is installed
    models: Path
    address: Address = field(default_factory=lambda: Address("http", "127.0.0.1", free_port()))
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        argv, environment = embedded.command(self.folder, self.address, self.models)
        with (self.models / "log").open("ab") as log:
            self.started.append(subprocess.Popen(argv, env=environment, stdout=log, stderr=log, start_new_session=True))
        until = time.monotonic() + 60
        while version_at(self.address) is None:
            assert time.monotonic() < until
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of the server alone: its runners are orphans then."""
        self.started[-1].kill()
        self.started[-1].wait()

    def end(self) -> None:
        """End it, and the runners that it, and those before it, have left."""
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def manifest(self, name: str, tag: str = "latest") -> Path:
        return self.models / f"manifests/registry.ollama.ai/library/{name}/{tag}"

    def tear(self, path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    def digest(self, name: str) -> str | None:
        return (digests_at(self.address) or {}).get(name)

    def system(self, name: str) -> str:
        """The system text of a model, as it is shown."""
        response = httpx.post(f"{self.address}/api/show", json={"model": name}, timeout=30)
        response.raise_for_status()
        return str(response.json().get("system", ""))

    def has_only_whole_files(self) -> bool:
        return all(
            digest_file(path) == path.name.replace("-", ":") for path in (self.models / "blobs").glob("sha256-*") if "partial" not in path.name
        )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    server = RealOllama(embedded.installed(cache_folder()), tmp_path_factory.mktemp("models"))
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def one_proxy(real: RealOllama) -> Iterator[FaultyProxy]:
    with FaultyProxy(f"{real.address.host}:{real.address.port}") as proxy:
        yield proxy


@pytest.fixture
def proxy(one_proxy: FaultyProxy, real: RealOllama) -> FaultyProxy:
    """The way to the server, which is well at first."""
    one_proxy.faults.clear()
    if version_at(real.address) is None:
        real.start()
    return one_proxy


@pytest.fixture(scope="module")
def built_once(one_proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    path = tmp_path_factory.mktemp("built")
    write_repo(path, tiny_base)
    (path / "dodo.py").write_text(DODO, encoding="utf-8")
    # A cache of their own: a build waits for trainings of the machine's other builds.
    environment = {**os.environ, "OLLAMA_HOST": one_proxy.host, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    subprocess.run([sys.executable, "-m", "doit"], cwd=path, env=environment, check=True, capture_output=True)
    return path


@pytest.fixture
def behind(built_once: Path, tmp_path: Path, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo whose two models are built, and one of them edited then."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", proxy.host)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repo = Repo(tmp_path, cast("FakeOllama", None))
    result = repo.doit()  # what a test before has left under the name is replaced
    assert result.code == 0, result.out + result.err
    repo.replace("base: tiny\n    data: [shared]\n", "base: tiny\n    data: [shared]\n    serve: {system: New.}\n")
    return repo


def check_that_it_failed_well(repo: Repo, *, code: int = 1) -> str:
    """A build that could not be done says why and what to do, and what it says."""
    result = repo.doit()
    said = result.out + result.err
    assert result.code == code, said
    assert "fix: " in said
    assert "Traceback" not in said
    return said


def check_that_it_heals(repo: Repo, real: RealOllama) -> None:
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert real.system("legal:latest") == "New."
    assert real.has_only_whole_files()
    assert repo.doit().ran == []


def test_a_server_that_is_killed_in_mid_upload(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    before = real.digest("legal:latest")
    shared = behind.records("shared")
    shared.write_text(shared.read_text(encoding="utf-8").replace("Answer 1.", "Reply 1."), encoding="utf-8")
    proxy.faults.append(Fault("/api/blobs/", sends=1000, then=real.kill))
    said = check_that_it_failed_well(behind)
    assert "can't send " in said
    real.start()
    assert real.digest("legal:latest") == before
    check_that_it_heals(behind, real)


def test_a_server_that_is_killed_in_mid_create(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    """In the first line of its answer: it has begun, and not ended."""
    before = real.digest("legal:latest")
    proxy.faults.append(Fault("/api/create", answers=20, then=real.kill))
    check_that_it_failed_well(behind)
    real.start()
    assert real.digest("legal:latest") == before
    check_that_it_heals(behind, real)


def test_a_manifest_that_was_torn_is_made_again(behind: Repo, real: RealOllama) -> None:
    check_that_it_heals(behind, real)
    before = real.digest("legal:latest")
    real.tear(real.manifest("legal"))
    assert real.digest("legal:latest") is None
    assert httpx.post(f"{real.address}/api/show", json={"model": "legal"}, timeout=30).status_code == 500
    result = behind.doit()
    assert (result.code, result.ran[0]) == (0, "register:legal"), result.out + result.err
    assert real.digest("legal:latest") == before
    check_that_it_heals(behind, real)


def test_a_manifest_that_is_torn_before_it_is_copied(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    """The server copies it byte by byte, and says that all is well."""
    before = real.digest("legal:latest")
    proxy.faults.append(Fault("/api/copy", before=lambda: real.tear(real.manifest("legal", "candidate"))))
    check_that_it_failed_well(behind)
    assert real.digest("legal:latest") in {None, before}
    check_that_it_heals(behind, real)


FAULTS: dict[str, dict[str, Any]] = {
    "create": {"path": "/api/create", "status": 500},
    "create, torn": {"path": "/api/create", "answers": 30, "closes": True},
    "load, 500": {"path": "/api/chat", "status": 500},
    "load, cut off": {"path": "/api/chat", "answers": 0},
    "copy, 500": {"path": "/api/copy", "status": 500},
}


def test_answers_that_are_no_answers(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    before = real.digest("legal:latest")
    for fault in FAULTS.values():
        proxy.faults.append(Fault(**fault))
        check_that_it_failed_well(behind)
        assert real.digest("legal:latest") == before
    check_that_it_heals(behind, real)


def test_a_server_that_answers_slowly(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    proxy.faults += [Fault("/api/", method, delay=0.1, times=99) for method in ("GET", "HEAD", "POST", "DELETE")]
    check_that_it_heals(behind, real)


def test_a_server_that_does_not_answer(behind: Repo, real: RealOllama, proxy: FaultyProxy) -> None:
    before = real.digest("legal:latest")
    proxy.faults.append(Fault("/api/", "GET", silent=True, times=99))
    assert "takes connections, and gives no answer" in check_that_it_failed_well(behind)
    proxy.faults.clear()
    assert real.digest("legal:latest") == before
    check_that_it_heals(behind, real)


def test_two_builds_of_one_name_at_once(behind: Repo, real: RealOllama, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(behind.path, other, dirs_exist_ok=True)
    repos = [behind, Repo(other, behind.server)]
    repos[1].replace("system: New.", "system: Other.")
    argv = [sys.executable, "-m", "doit", "test:legal"]
    builds = [subprocess.Popen(argv, cwd=repo.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for repo in repos]
    said = [build.communicate()[0] for build in builds]
    # One may find its candidate replaced by the other's, and says so.
    assert min(build.returncode for build in builds) == 0, said
    for build, text in zip(builds, said, strict=True):
        assert build.returncode == 0 or (build.returncode == 1 and "fix: run `doit` again" in text), text
    assert real.system("legal:latest") in {"New.", "Other."}
    check_that_it_heals(behind, real)
