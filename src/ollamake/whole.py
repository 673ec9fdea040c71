"""What all ways to take the steps of a run have in common, and the way of one process."""

from __future__ import annotations

from collections import deque
from typing import Any

from doit.exceptions import InvalidDodoFile, UnmetDependency
from doit.runner import Runner

from ollamake.call import current
from ollamake.ending import Ending
from ollamake.engines import chosen as engines
from ollamake.processes import held_back
from ollamake.reporter import step_of
from ollamake.run import Withdrawn
from ollamake.sinks import feed as sinks
from ollamake.talks import CLUSTER, HERE, Talks, lane_of

HOLD_ON = "hold on"  # doit's dispatcher: all that is left waits for something


class Whole(Runner):
    """What both ways to run have in common: a run ends with its report, whatever happened to its database."""

    _stop_running: bool
    final_result: int

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        """A step failed, or one before it has. What fails on one of several servers keeps no other server from its models."""
        stops, result = self._stop_running, self.final_result
        super()._handle_task_error(node, base_fail)
        if isinstance(base_fail, UnmetDependency):  # no failure of its own: what failed has said so
            self._stop_running, self.final_result = stops, result
        elif step_of(node.task) is not None and step_of(node.task).host is not None:
            self._stop_running = stops

    def taken(self, node: Any, failure: Any) -> Any:
        """A step has ended that went on beside others: the node for doit, or None where it was just not done."""
        if isinstance(failure, Withdrawn):
            return None
        self.process_task_result(node, failure)
        return node

    def withdraw(self, talks: Talks) -> None:
        """The run stops: what waits for its place on a cluster won't be done."""
        if any(lane.startswith(CLUSTER) for lane in talks.talking.values()):
            engines.withdraw()

    def finish(self) -> int:
        """Write the database, end what has to be ended, report. Returns doit's result."""
        ending = getattr(self.reporter, "ending", Ending())  # doit's own reporters have none
        by_signal = ending.by is not None
        if by_signal:
            ending.no_more()
        try:
            if fault := written(self.dep_manager):
                self.reporter.runtime_error(fault)
                self.final_result = 2
            self.teardown()
            end_servers()
            engines.close()
            sinks.close(waits=not by_signal)
        finally:  # though Ctrl-C comes while it waits for one of them
            self.reporter.complete_run()
        return int(self.final_result)


class OneByOne(Whole):
    """One step after the other, in this process; but where there are several servers, a step of each at once, and trainings on a cluster beside all."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Everything but trainings as it becomes ready, then a training, and so on."""
        talks = Talks(self.execute_task)
        held: deque[Any] = deque()
        generator, more = task_dispatcher.generator, True
        node: Any = None
        while not self._stop_running:
            if node is None and not talks.answered.empty():
                node = self.taken(*talks.next())
                continue
            if more:
                try:
                    node = generator.send(node)
                except StopIteration:
                    more = False
            if not more or node == HOLD_ON:
                node = None
                if not self._wait(talks, held):
                    return
            elif self.select_task(node, task_dispatcher.tasks):
                node = self._begun(node, talks, held)
        self.withdraw(talks)
        while talks.talking:  # what has begun elsewhere comes to its end
            self.taken(*talks.next())

    def _begun(self, node: Any, talks: Talks, held: deque[Any]) -> Any:
        """The node, once its step is done; None where it is held back, or goes on beside others."""
        lane = lane_of(node.task)
        if lane == HERE:
            held.append(node)
        elif lane:
            talks.add(node, lane)
            if lane.startswith(CLUSTER):
                talks.begin()
        else:
            self.process_task_result(node, self.execute_task(node.task))
            return node
        return None

    def _wait(self, talks: Talks, held: deque[Any]) -> bool:
        """Wait until a step is done, of those that were held back, and leave it to `talks`; False where there is none."""
        if held and HERE not in talks.talking.values() and any(lane.startswith(CLUSTER) for lane in talks.talking.values()):
            talks.add(held.popleft(), HERE)
        if talks.begin():
            talks.answered.put(talks.answered.get())
        elif held:
            node = held.popleft()
            talks.talking[node.task.name] = HERE
            talks.answered.put((node, self.execute_task(node.task)))
        else:
            return False
        return True


def written(dep_manager: Any) -> str:
    """Write the database. Returns why that could not be done, or an empty text."""
    try:
        with held_back():
            dep_manager.close()
    except InvalidDodoFile as error:
        return str(error).strip()
    return ""


def end_servers() -> None:
    """Let go of the servers that steps in this process have used. Not by doit's teardown: what a thousand of these tell fills its pipe for good."""
    for run, _ in current().catalogs.values():
        run.end_servers()
