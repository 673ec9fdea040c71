"""A real Ollama pushes models to a real registry, which is killed meanwhile, is away, or wants a password."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from conftest import DODO, Repo, write_repo
from faulty_proxy import Fault, FaultyProxy
from ollamake.digest import digest_bytes, digest_file
from ollamake.errors import BuildError
from ollamake.ollama.address import digests_at
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.pushing import push_model
from real_registry import RealRegistry
from registry_here import RefusingRegistry

if TYPE_CHECKING:
    from fake_ollama import FakeOllama

pytestmark = pytest.mark.live
UPLOADS = "/v2/team/bot/blobs/uploads/"


@pytest.fixture
def bot(real_server: OllamaServer, tiny_base: Path) -> str:
    """The digest of a model `bot` on the server."""
    file = (tiny_base, digest_file(tiny_base))
    return real_server.create(
        NewModel(name="bot:latest", files=(file,), adapter=None, system=None, template="{{ .Prompt }}", parameters={"top_k": 3})
    )


@pytest.fixture
def way(registry: RealRegistry) -> Iterator[FaultyProxy]:
    """The way to the registry, which may be cut."""
    with FaultyProxy(registry.address) as found:
        yield found


def test_a_model_comes_whole_to_a_registry_and_is_sent_once(real_server: OllamaServer, tiny_base: Path, registry: RealRegistry, bot: str) -> None:
    target = f"{registry.address}/team/bot:v1"
    assert push_model(real_server, "bot:latest", target, insecure=True) == bot
    layers = json.loads(registry.content("team/bot", "manifests", "v1"))["layers"]
    (model,) = [layer["digest"] for layer in layers if layer["mediaType"].endswith("image.model")]
    assert registry.content("team/bot", "blobs", model) == tiny_base.read_bytes()
    assert target not in (digests_at(real_server.address) or {})
    sent = len(registry.sent)
    push_model(real_server, "bot:latest", target, insecure=True)
    assert [line.partition("/v2")[2] for line in registry.sent[sent:]] == ["/team/bot/manifests/v1"]  # of what it has nothing is sent again
    with pytest.raises(BuildError, match="insecure: true"):
        push_model(real_server, "bot:latest", target, insecure=False)
    assert target not in (digests_at(real_server.address) or {})


def test_a_registry_that_refuses_or_is_away_is_said(real_server: OllamaServer, bot: str) -> None:
    registry = RefusingRegistry()
    with pytest.raises(BuildError, match=r"denied.*\n  fix: push to a name of your own"):
        push_model(real_server, "bot:latest", f"{registry.address}/team/bot:v1", insecure=True)
    registry.close()
    with pytest.raises(BuildError, match="look whether the registry runs"):
        push_model(real_server, "bot:latest", f"{registry.address}/team/bot:v1", insecure=True)
    assert f"{registry.address}/team/bot:v1" not in (digests_at(real_server.address) or {})


def test_a_registry_that_wants_a_password_is_said(real_server: OllamaServer, registry: RealRegistry, bot: str) -> None:
    registry.kill()
    registry.start(users=True)
    with pytest.raises(BuildError) as caught:
        push_model(real_server, "bot:latest", f"{registry.address}/team/bot:v1", insecure=True)
    assert str(caught.value) == (
        f'can\'t push {registry.address}/team/bot:v1: {real_server.address} says: Get "the-registry": unsupported protocol scheme ""\n'
        "  fix: have the registry let this server in without a user's password, which no Ollama sends: by its address, or by a proxy that adds it"
    )


def test_a_registry_that_is_killed_and_comes_back_has_the_model_whole(
    real_server: OllamaServer, tiny_base: Path, registry: RealRegistry, way: FaultyProxy, bot: str
) -> None:
    def again() -> None:
        registry.kill()
        registry.start()

    way.faults.append(Fault(UPLOADS, method="PATCH", sends=10_000, then=again))
    push_model(real_server, "bot:latest", f"{way.host}/team/bot:v1", insecure=True)
    assert way.faults[0].times == 0
    assert digest_file(tiny_base).encode() in registry.content("team/bot", "manifests", "v1")
    assert registry.content("team/bot", "blobs", digest_file(tiny_base)) == tiny_base.read_bytes()


@pytest.fixture
def pushing(real_server: OllamaServer, way: FaultyProxy, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo one of whose models is published in the registry; nothing built yet."""
    write_repo(tmp_path, tiny_base)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", f"{real_server.address.host}:{real_server.address.port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "dodo.py").write_text(DODO, encoding="utf-8")
    repo = Repo(tmp_path, cast("FakeOllama", None))
    repo.replace("    data: [shared]\n", f'    data: [shared]\n    push: {{ollama: {{name: "{way.host}/team/bot", insecure: true}}}}\n')
    return repo


def test_a_push_that_is_killed_in_the_middle_is_done_by_the_next_and_pulled_by_others(
    pushing: Repo, real_server: OllamaServer, way: FaultyProxy, registry: RealRegistry
) -> None:
    name = f"{way.host}/team/bot:latest"
    assert pushing.doit("build", "legal").code == 0
    builds: Queue[subprocess.Popen[bytes]] = Queue()

    def kills() -> None:
        build = builds.get()
        os.killpg(build.pid, signal.SIGKILL)
        build.wait()

    way.faults.append(Fault(UPLOADS, method="PATCH", sends=10_000, then=kills))
    builds.put(build := subprocess.Popen([sys.executable, "-m", "doit", "push"], cwd=pushing.path, start_new_session=True))
    assert build.wait() == -signal.SIGKILL
    result = pushing.doit("push")
    assert (result.code, result.ran) == (0, ["push:legal"]), result.out + result.err
    listed = digests_at(real_server.address) or {}
    known = json.loads((pushing.path / ".ollamake/pushed/legal.json").read_text(encoding="utf-8"))
    assert (known["ollama"]["digest"], name in listed) == (listed["legal:latest"], False)
    assert list(pushing.path.glob(".ollamake/pushing/*")) == []
    asked = len(way.asked)
    assert (pushing.doit("push").ran, len(way.asked)) == ([], asked)
    pulled = httpx.post(f"{real_server.address}/api/pull", json={"model": name, "insecure": True, "stream": False}, timeout=60).json()
    assert pulled == {"status": "success"}
    manifest = registry.content("team/bot", "manifests", "latest")
    assert (digests_at(real_server.address) or {})[name] == digest_bytes(manifest)
    for layer in json.loads(manifest)["layers"]:
        assert digest_bytes(registry.content("team/bot", "blobs", layer["digest"])) == layer["digest"]
    real_server.delete(name)
