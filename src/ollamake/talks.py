"""Steps that go on beside the others: one of each lane at a time, all lanes at once. A server is a lane, and each training on a cluster is one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from doit.exceptions import TaskError

from ollamake.catalog import Model
from ollamake.catalog.places import LOCAL
from ollamake.engines.this_machine import slots_of
from ollamake.graph import Step
from ollamake.reporter import step_of

HERE, CLUSTER = "train here", "train elsewhere: "  # lanes
MOST = 256  # steps at once: more than most clusters have room for, so that those which grow see what is asked of them


class Talks:
    """What waits for its lane, and what is on its way; used by one thread."""

    def __init__(self, execute: Callable[[Any], Any], told: Callable[[str], None] = lambda _: None) -> None:
        """`execute` does a doit task; returns doit's failure, or None. `told` is called with the name of one that has ended, by its thread."""
        self.execute, self.told = execute, told
        self.waiting: dict[str, deque[Any]] = {}  # lane -> its steps that are ready
        self.talking: dict[str, str] = {}  # step -> its lane
        self.answered: SimpleQueue[tuple[Any, Any]] = SimpleQueue()  # doit's node of a step that has ended, and its failure

    def add(self, node: Any, lane: str) -> None:
        """A step is ready. What goes on with a model that the server has got goes before what begins with the next one."""
        nodes = self.waiting.setdefault(lane, deque())
        begin = (place for place, other in enumerate(nodes) if not step_of(other.task).after)
        nodes.insert(next(begin, len(nodes)) if step_of(node.task).after else len(nodes), node)

    def begin(self) -> bool:
        """Begin what can begin. Returns whether anything is on its way."""
        busy = set(self.talking.values())
        for lane in [lane for lane in self.waiting if lane not in busy][: MOST - len(busy)]:
            node = self.waiting[lane].popleft()
            if not self.waiting[lane]:
                del self.waiting[lane]
            self.talking[node.task.name] = lane
            # A daemon: who presses Ctrl-C does not wait for an upload.
            threading.Thread(target=self._do, args=(node,), daemon=True).start()
        return bool(self.talking)

    def next(self) -> tuple[Any, Any]:
        """Wait for one that ends: doit's node, and its failure or None."""
        node, failure = self.answered.get()
        del self.talking[node.task.name]
        return node, failure

    def _do(self, node: Any) -> None:
        try:
            failure = self.execute(node.task)
        except BaseException as error:  # noqa: BLE001 - or the other thread would wait for it for ever
            failure = TaskError("a step ended with an error", error)
        self.answered.put((node, failure))
        self.told(node.task.name)


def server_of(task: Any) -> str:
    """The server that a step talks to, where there are several; else an empty text."""
    step = step_of(task)
    return "" if step is None or step.host is None else str(step.host)


def lane_of(task: Any) -> str:
    """Beside what a step may go on: HERE for a training on this machine, CLUSTER and its name for one that is not, or its server; else an empty text."""
    step = training_of(task)
    if step is None:
        return server_of(task)
    return HERE if isinstance(step.subject, Model) and step.subject.engine.kind == LOCAL else f"{CLUSTER}{step.name}"


def taken_by(task: Any) -> tuple[str, int]:
    """What a training takes: of the GPUs or of the CPU, and how many."""
    step = training_of(task)
    assert step is not None
    assert isinstance(step.subject, Model)
    return slots_of(step.subject.train.gpus)


def training_of(task: Any) -> Step | None:
    """The step of a task that trains, or None."""
    step: Step | None = step_of(task)
    return step if step is not None and step.stage == "train" else None
