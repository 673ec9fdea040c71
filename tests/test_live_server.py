"""The embedded Ollama: started where none answers, shared while it is used, ended by who lets go last."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from live_fixtures import free_port
from ollamake.catalog import Model
from ollamake.catalog.values import Base, Serve, Train
from ollamake.digest import digest_file
from ollamake.errors import BuildError, Mark
from ollamake.ollama.address import Address, digests_at, version_at
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.described import blobs_in
from ollamake.ollama.server import known_digests, use_server
from ollamake.stages.drift import differences
from tiny_base import write_tiny_base

pytestmark = pytest.mark.live


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    """A free port, and a folder of models of its own."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    found = Address("http", "127.0.0.1", free_port())
    monkeypatch.setenv("OLLAMA_HOST", f"{found.host}:{found.port}")
    yield found
    assert version_at(found) is None, "the server was left running"


def test_the_last_to_let_go_ends_the_server(address: Address) -> None:
    first, second = use_server(address), use_server(address)
    assert first.version == second.version == "0.9.3"
    assert first.lease is not None
    first.end()
    assert version_at(address) == "0.9.3"
    second.end()
    assert version_at(address) is None


def test_a_user_that_is_killed_leaves_the_server_to_the_next(address: Address) -> None:
    program = f"""
import time
from ollamake.ollama.address import Address
from ollamake.ollama.server import use_server
use_server(Address("http", "127.0.0.1", {address.port}))
print("started", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "started\n"
        user.kill()
    assert version_at(address) == "0.9.3"
    use_server(address).end()


def test_two_that_come_at_once_start_one_server(address: Address) -> None:
    program = f"""
from ollamake.ollama.address import Address
from ollamake.ollama.server import _server_pid, use_server
address = Address("http", "127.0.0.1", {address.port})
use = use_server(address)
print(_server_pid(address), flush=True)
input()
use.end()
"""
    users = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    pids = {user.stdout.readline() for user in users if user.stdout}
    assert len(pids) == 1, pids
    assert int(pids.pop()) > 0
    for user in users:
        user.communicate("\n", timeout=30)


def test_models_are_known_while_the_embedded_server_does_not_run(address: Address, tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    write_tiny_base(path)
    use = use_server(address)
    with OllamaServer(address) as server:
        server.create(NewModel(name="kept", files=((path, digest_file(path)),), adapter=None, system="Hi", template=None, parameters={}))
    while_running = digests_at(address)
    use.end()
    assert while_running is not None
    assert set(while_running) == {"kept:latest"}
    assert known_digests(address) == while_running


def test_serve_keeps_it_running_until_it_is_told_to_end(address: Address, tmp_path: Path) -> None:
    def serve() -> subprocess.Popen[str]:
        doit = subprocess.Popen([sys.executable, "-m", "doit", "serve"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert doit.stdout is not None
        assert doit.stdout.readline() == f"Ollama 0.9.3 at {address}; Ctrl-C ends it\n"
        assert version_at(address) == "0.9.3"
        return doit

    (tmp_path / "dodo.py").touch()
    first, second = serve(), serve()
    for doit, number, left in ((first, signal.SIGINT, "0.9.3"), (second, signal.SIGTERM, None)):
        doit.send_signal(number)
        _, err = doit.communicate(timeout=30)
        assert (doit.returncode, err) == (0, "")
        assert version_at(address) == left


def test_serve_says_when_the_server_ends_by_itself(address: Address, tmp_path: Path) -> None:
    from ollamake.ollama.server import _server_pid

    serve = subprocess.Popen([sys.executable, "-m", "doit", "serve"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert serve.stdout is not None
    serve.stdout.readline()
    pid = _server_pid(address)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, err = serve.communicate(timeout=30)
    assert (serve.returncode, err) == (1, f"Ollama at {address} ended by itself\n")
    until = time.monotonic() + 10
    while version_at(address) is not None:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_it_is_installed_from_nothing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two builds at once in an empty cache: one installs, the other waits; what is left runs."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    program = "from ollamake.ollama.embedded import installed; from ollamake.folders import cache_folder; print(installed(cache_folder()))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        use = use_server(Address("http", "127.0.0.1", free_port()))
        out, _ = other.communicate()
    assert use.version == version_at(use.address) == "0.9.3"
    use.end()
    said = f"   Ollama is not on this machine: installing 0.9.3 (2 GB, once) into {cache}/ollamake\n"
    assert (capsys.readouterr().out + out).replace(f"{cache}/ollamake/ollama-0.9.3\n", "") == said
    assert sorted(path.name for path in (cache / "ollamake").iterdir()) == ["home", "install.lock", "install.log", "ollama-0.9.3", "servers"]
    shutil.rmtree(cache)  # 2 GB


def test_an_installation_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(BuildError) as caught:
        use_server(Address("http", "127.0.0.1", free_port()))
    said = str(caught.value)
    assert said.startswith(f"Ollama 0.9.3 could not be installed; {cache}/ollamake/install.log ends:\n    ")
    assert "No matching distribution found for bigdl-core-cpp" in said
    assert said.endswith("\n  fix: get Ollama from https://ollama.com/download, start it, and run `doit` again")
    assert sorted(path.name for path in (cache / "ollamake").iterdir()) == ["install.lock", "install.log", "servers"]


def test_what_was_edited_of_a_model_is_told_from_what_the_server_adds_itself(address: Address, tmp_path: Path) -> None:
    """Ollama takes `stop` from the template; that is nobody's edit."""
    base = tmp_path / "base.gguf"
    write_tiny_base(base)
    model = Model(
        name="legal",
        base=Base(name="tiny", gguf=str(base), hf=None, mark=Mark("models.yaml", 1)),
        portions=(),
        shuffle=False,
        train=Train(),
        adapter="adapters/legal",
        serve=Serve(parameters={"temperature": 0.2, "num_ctx": 64, "stop": ["END", "STOP"]}),
        tags=(),
        mark=Mark("models.yaml", 1),
    )
    plain = replace(model, serve=Serve(parameters={"temperature": 0.2}))
    use = use_server(address)
    try:
        with OllamaServer(address) as server:
            files = ((base, digest_file(base)),)

            def create(system: str | None = None, **parameters: Any) -> None:
                server.create(NewModel(name="legal", files=files, adapter=None, system=system, template=None, parameters=parameters))

            create(**model.serve.parameters)
            assert differences(server, model) == ["nothing that the catalog says"]
            create(temperature=0.2)
            assert differences(server, plain) == ["nothing that the catalog says"]
            create("Be rude.", temperature=0.9, top_k=3)
            assert differences(server, plain) == ["temperature: 0.2 -> 0.9", "top_k: nothing -> 3", "the system prompt"]
            assert blobs_in(server.shown("legal:latest").modelfile) == {digest_file(base)}
    finally:
        use.end()
