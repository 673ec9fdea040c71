"""Trainings whose nodes do not answer any more, with real ports in the place of nodes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import NodeDiedError

from ollamake.engines import ray_places
from ollamake.engines.ray_places import MovedError, Places


async def reports(*told: dict[str, Any]) -> AsyncIterator[asyncio.Future[dict[str, Any]]]:
    """As Ray hands them on; after these, nothing comes."""
    for report in told:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        future.set_result(report)
        yield future
    await asyncio.sleep(60)


async def heard(places: Places, *told: dict[str, Any]) -> list[dict[str, Any]]:
    return [report async for report in places.heard(reports(*told))]


def node(name: str, port: int) -> dict[str, Any]:
    return {"NodeID": name, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}


@pytest.fixture
def ports() -> Any:
    """One that answers, and one that does not."""
    with socket.create_server(("127.0.0.1", 0)) as there, socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
        gone.close()
        yield there.getsockname()[1], port


def test_a_training_on_a_node_that_the_cluster_has_given_up_is_lost(ports: tuple[int, int]) -> None:
    async def run() -> None:
        places = Places()
        there, lost = (asyncio.create_task(heard(places, {"node": name}, {"began": name})) for name in ("a", "b"))
        await asyncio.sleep(0.1)
        assert await places.look([node("a", ports[0])]) == []
        with pytest.raises(NodeDiedError):
            await lost
        assert not there.done()
        assert places.options() == {}
        there.cancel()

    asyncio.run(run())


def test_a_node_that_does_not_answer_is_shunned_until_it_does(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        places = Places()
        nodes = [node("a", ports[0]), node("b", ports[1])]
        assert await places.look(nodes) == []  # it has its time
        monkeypatch.setattr(ray_places, "SILENCE", 0.0)
        there, lost, waits = (asyncio.create_task(heard(places, *told)) for told in ([{"node": "a"}], [{"node": "b"}], []))
        await asyncio.sleep(0.1)
        assert await places.look(nodes) == ["127.0.0.1"]
        with pytest.raises(NodeDiedError):
            await lost
        with pytest.raises(MovedError):
            await waits
        assert places.options() == {"label_selector": {"ray.io/node-id": "!in(b)"}}
        assert await places.look(nodes) == []  # once is enough
        assert await places.look([nodes[0], node("b", ports[0])]) == []
        assert places.options() == {}
        assert not there.done()
        there.cancel()

    asyncio.run(run())
