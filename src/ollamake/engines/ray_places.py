"""The nodes of a Ray cluster on which trainings run, and those that do not answer this machine, though the cluster has them.

Ray waits for ever for a node that is there for the cluster's head, and not for the driver, as behind a firewall: here such a node is shunned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ray.exceptions import NodeDiedError

from ollamake.engines.ray_lines import Facts

NODE = "node"  # all that the first report of a training has: the id of its node
SILENCE = 90.0  # seconds that a node may not answer: more than a driver without its head has
ANSWER = 5.0  # seconds that it has to answer once


class MovedError(Exception):
    """A training that has not begun may wait for a node that is shunned now."""


class Places:
    """Who waits for which node."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], str | None] = {}  # a training's node, once that is known
        self._silent: dict[str, float] = {}  # node -> since when it does not answer
        self._shunned: set[str] = set()

    def options(self) -> Facts:
        """What keeps a task from nodes that are shunned."""
        return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(self._shunned))})"}} if self._shunned else {}

    async def heard(self, reports: Any) -> AsyncIterator[Facts]:
        """The reports of a training, but for the first. Raises NodeDiedError where its node is given up, MovedError, and what Ray raises."""
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[lost] = None
        try:
            while True:
                coming: asyncio.Future[Any] = asyncio.ensure_future(_next(reports))
                await asyncio.wait([coming, lost], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    if self._waiting[lost] is None:
                        raise MovedError
                    msg = "its node does not answer any more"
                    raise NodeDiedError(msg)
                report = coming.result()
                if report is None:
                    return
                if NODE in report:
                    self._waiting[lost] = report[NODE]
                else:
                    yield report
        finally:
            del self._waiting[lost]

    async def look(self, nodes: Sequence[Facts]) -> list[str]:
        """Look whether the nodes that the cluster has answer, and end the waiting for all others. Returns the addresses of those that are shunned from now on."""
        answers = await asyncio.gather(*map(_answers, nodes))
        now = time.monotonic()
        self._silent = {node["NodeID"]: self._silent.get(node["NodeID"], now) for node, answered in zip(nodes, answers, strict=True) if not answered}
        shunned = {node for node, since in self._silent.items() if now - since >= SILENCE}
        new, self._shunned = shunned - self._shunned, shunned
        left = {node["NodeID"] for node in nodes} - shunned
        for lost, node in self._waiting.items():
            if not lost.done() and (new if node is None else node not in left):
                lost.set_result(None)
        return [node["NodeManagerAddress"] for node in nodes if node["NodeID"] in new]


async def _next(reports: Any) -> Facts | None:
    """The next report; None at the end."""
    try:
        report: Facts = await (await anext(reports))
    except StopAsyncIteration:
        return None
    return report


async def _answers(node: Facts) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(node["NodeManagerAddress"], node["NodeManagerPort"]), ANSWER)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True
