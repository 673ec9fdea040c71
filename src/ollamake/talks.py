"""Steps that talk to servers, where a catalog has several: one of each server at a time, all servers at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from doit.exceptions import TaskError

from ollamake.reporter import step_of


class Talks:
    """What waits for its server, and what talks to it; used by one thread."""

    def __init__(self, execute: Callable[[Any], Any]) -> None:
        """`execute` does a doit task; returns doit's failure, or None."""
        self.execute = execute
        self.waiting: dict[str, deque[Any]] = {}  # server -> its steps that are ready
        self.talking: set[str] = set()  # servers
        self.answered: SimpleQueue[tuple[Any, Any]] = SimpleQueue()  # doit's node of a step that has ended, and its failure

    def add(self, node: Any) -> None:
        """A step is ready. What goes on with a model that the server has got goes before what begins with the next one."""
        nodes = self.waiting.setdefault(server_of(node.task), deque())
        begin = (place for place, other in enumerate(nodes) if not step_of(other.task).after)
        nodes.insert(next(begin, len(nodes)) if step_of(node.task).after else len(nodes), node)

    def begin(self) -> bool:
        """Begin what can begin. Returns whether anything is on its way."""
        for host, nodes in self.waiting.items():
            if nodes and host not in self.talking:
                self.talking.add(host)
                # A daemon: who presses Ctrl-C does not wait for an upload.
                threading.Thread(target=self._do, args=(nodes.popleft(),), daemon=True).start()
        return bool(self.talking)

    def next(self) -> tuple[Any, Any]:
        """Wait for one that ends: doit's node, and its failure or None."""
        node, failure = self.answered.get()
        self.talking.remove(server_of(node.task))
        return node, failure

    def _do(self, node: Any) -> None:
        try:
            failure = self.execute(node.task)
        except BaseException as error:  # noqa: BLE001 - or the other thread would wait for it for ever
            failure = TaskError("a step ended with an error", error)
        self.answered.put((node, failure))


def server_of(task: Any) -> str:
    """The server that a step talks to, where there are several; else an empty text."""
    step = step_of(task)
    return "" if step is None or step.host is None else str(step.host)
