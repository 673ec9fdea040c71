"""The shared cache on Azure and on Google: what goes wrong there costs one warning, goes by in a bounded time, and tells nobody who we are."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer

import pytest

from clouds_here import ACCOUNT, KEY, WRONG_KEY, Server, connection
from conftest import DODO, Repo
from ollamake.cache.opening import StoreError
from ollamake.cache.store import Store
from test_cache_store import Forbidding


@dataclass(frozen=True)
class Cloud:
    url: str  # of an empty place
    server: Server


@pytest.fixture(params=["azure", "gcs"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    url = request.getfixturevalue(request.param)
    server = request.getfixturevalue(f"{request.param}_server")
    yield Cloud(url, server)
    server.signal(signal.SIGCONT)


def cached(repo: Repo, url: str, timeout: float = 30) -> None:
    path = repo.path / "models.yaml"
    text = re.sub(r"^cache: .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text.replace("version: 1\n", f"version: 1\ncache: {{url: '{url}', timeout: {timeout}}}\n"), encoding="utf-8")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")


def doit(repo: Repo, *words: str) -> subprocess.CompletedProcess[str]:
    """With the words of all its processes and libraries."""
    done = subprocess.run([sys.executable, "-m", "doit", *words], cwd=repo.path, check=False, capture_output=True, text=True)
    for secret in (KEY, WRONG_KEY):
        assert secret not in done.stdout + done.stderr
    return done


def warned(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.strip() for line in done.stdout.splitlines() if "the cache at" in line]


def test_nothing_is_said_of_what_goes_well(repo: Repo, cloud: Cloud) -> None:
    cached(repo, cloud.url)
    done = doit(repo, "-n", "2")
    assert (done.returncode, done.stderr, warned(done)) == (0, "", [])
    for words, said in {
        ("cache", "status"): "2 objects",
        ("cache", "verify"): "all as they were written",
        ("cache", "push"): "2 there already",
    }.items():
        done = doit(repo, *words)
        assert (done.returncode, done.stderr, said in done.stdout) == (0, "", True), done.stdout
    done = doit(repo, "cache", "prune", "--older-than", "0.00001h")
    assert (done.returncode, done.stderr, "removed 2 objects" in done.stdout) == (0, "", True), done.stdout
    done = doit(repo, "cache", "push")
    assert (done.returncode, done.stderr, "put 2 adapters there" in done.stdout) == (0, "", True), done.stdout


def test_a_damaged_object_is_refused_and_replaced(repo: Repo, cloud: Cloud) -> None:
    cached(repo, cloud.url)
    assert doit(repo, "train:legal").returncode == 0
    store = Store(cloud.url, 60)
    (one,) = store.listed("adapters")
    whole = store.read(one.path, lambda read, size: read(size))
    assert whole is not None
    store.write(one.path, [whole[:-1500] + b"\1" + whole[-1499:]], len(whole), replace=True)
    assert doit(repo, "cache", "verify").returncode == 1
    repo.replace("rank: 2,", "rank: 4,")
    assert doit(repo, "train:legal").returncode == 0
    repo.replace("rank: 4,", "rank: 2,")
    done = doit(repo, "train:legal")
    assert (done.returncode, len(repo.trainings)) == (0, 3)
    assert (
        f"   legal: warning: {one.path} in the cache is refused: adapter_model.safetensors is not as it was written; made here instead\n"
        in done.stdout
    )
    assert doit(repo, "cache", "verify").returncode == 0
    assert store.read(one.path, lambda read, size: len(read(size))) == len(whole)


def test_a_place_that_is_not_there_costs_one_warning(repo: Repo, cloud: Cloud) -> None:
    cached(repo, f"{cloud.url.partition('://')[0]}://no-such-place/models")
    done = doit(repo, "-n", "2")
    assert (done.returncode, sorted(repo.trainings), done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    assert len(warned(done)) == 1


def test_a_server_that_hangs_costs_one_warning(repo: Repo, cloud: Cloud) -> None:
    cached(repo, cloud.url, timeout=2)
    cloud.server.signal(signal.SIGSTOP)
    done = doit(repo, "-n", "2")
    assert (done.returncode, sorted(repo.trainings), done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    assert warned(done) == [f"models.yaml:2: warning: the cache at {cloud.url} does not answer: nothing for 2 s; this run goes on without it"]


def test_a_server_that_is_down_costs_one_warning(repo: Repo, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        down = Server([], f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(down))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", down.url)
        cached(repo, cloud.url, timeout=3)
        done = doit(repo, "-n", "2")
    assert (done.returncode, sorted(repo.trainings), done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    assert len(warned(done)) == 1
    assert "this run goes on without it" in warned(done)[0]


def test_azure_lets_nobody_in_with_a_wrong_key(repo: Repo, azure: str, azure_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(azure_server, WRONG_KEY))
    cached(repo, azure)
    done = doit(repo, "-n", "2")
    assert (done.returncode, sorted(repo.trainings), done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    (line,) = warned(done)
    assert line.startswith(f"models.yaml:2: warning: the cache at {azure} refuses us: "), line


def test_who_may_only_read_azure_takes_what_is_there(repo: Repo, azure: str, azure_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    cached(repo, azure)
    assert doit(repo, "train:legal").returncode == 0
    until = datetime.now(timezone.utc) + timedelta(hours=1)
    may = ContainerSasPermissions(read=True, list=True)
    sas = generate_container_sas(ACCOUNT, azure.split("/")[2], account_key=KEY, permission=may, expiry=until)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"BlobEndpoint={azure_server.url};SharedAccessSignature={sas}")
    shutil.rmtree("adapters")
    done = doit(repo, "train")
    assert (done.returncode, repo.trainings, done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    assert done.stdout.count("legal: from the cache: ") == 1
    (line,) = warned(done)
    assert " refuses us: " in line
    assert line.endswith("; nothing more is written to it in this run")
    assert sas not in done.stdout


def test_azure_without_any_credentials_is_said(azure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    with pytest.raises(StoreError, match=r"does not answer as it should: .*connection_string or account_name with credentials"):
        Store(azure, 60).reach()


def test_google_lets_nobody_in_who_may_not(repo: Repo, gcs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        cached(repo, gcs)
        done = doit(repo, "-n", "2")
        server.shutdown()
    assert (done.returncode, sorted(repo.trainings), done.stderr) == (0, ["legal", "sales"], ""), done.stdout
    (line,) = warned(done)
    assert line.startswith(f"models.yaml:2: warning: the cache at {gcs} refuses us: Forbidden: "), line
