"""A real Ollama pushes a model to a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.ollama.address import digests_at
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.pushing import push_model
from registry_here import Registry

pytestmark = pytest.mark.live


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    yield server
    server.close()


def test_a_model_comes_whole_to_a_registry_and_is_sent_once(real_server: OllamaServer, tiny_base: Path, registry: Registry) -> None:
    digest = digest_file(tiny_base)
    made = real_server.create(
        NewModel(name="bot:latest", files=((tiny_base, digest),), adapter=None, system=None, template="{{ .Prompt }}", parameters={"top_k": 3})
    )
    target = f"{registry.address}/team/bot:v1"
    assert push_model(real_server, "bot:latest", target, insecure=True) == made
    manifest = registry.manifests["team/bot:v1"]
    (model,) = [layer["digest"] for layer in manifest["layers"] if layer["mediaType"].endswith("image.model")]
    assert registry.blobs[model] == tiny_base.read_bytes()
    assert target not in (digests_at(real_server.address) or {})
    sent = registry.counts["blob"]
    push_model(real_server, "bot:latest", target, insecure=True)
    assert registry.counts["blob"] == sent  # what it has is not sent again
    with pytest.raises(BuildError, match="insecure: true"):
        push_model(real_server, "bot:latest", target, insecure=False)
    registry.refuses = True
    registry.blobs.clear()
    with pytest.raises(BuildError, match=r"denied.*\n  fix: push to a name of your own"):
        push_model(real_server, "bot:latest", target, insecure=True)
    with pytest.raises(BuildError, match="look whether the registry runs"):
        push_model(real_server, "bot:latest", "127.0.0.1:9/team/bot:v1", insecure=True)
    assert target not in (digests_at(real_server.address) or {})
