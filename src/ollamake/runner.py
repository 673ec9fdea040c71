"""How doit takes the steps of a run: what is cheap first, and never more trainings at once than the machine has room for.

A training that is ready is held back: in a run of one process until nothing cheap is left to do, in a run of several until a GPU is free. All else
is doit's own runner.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from contextlib import nullcontext
from multiprocessing import active_children, get_all_start_methods, get_start_method, set_start_method
from typing import Any

from doit.exceptions import InvalidCommand, InvalidDodoFile, UnmetDependency
from doit.runner import JobHold, JobTask, JobTaskPickle, MRunner, MThreadRunner, Runner
from doit.task import DelayedLoaded

from ollamake.call import current
from ollamake.catalog import Model
from ollamake.engines.this_machine import most_at_once, slots_of
from ollamake.graph import Step
from ollamake.processes import end_with_child, end_with_parent, held_back
from ollamake.reporter import ENDING, step_of
from ollamake.talks import Talks, server_of

HOLD_ON = "hold on"  # doit's dispatcher: all that is left waits for something


class _Whole(Runner):
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

    def finish(self) -> int:
        """Write the database, end what has to be ended, report. Returns doit's result."""
        # Who ends a run presses Ctrl-C twice: the second one comes when all of this is done.
        with held_back() if getattr(self.reporter, "ended", False) else nullcontext():
            try:
                with held_back():
                    self.dep_manager.close()
            except InvalidDodoFile as error:
                self.reporter.runtime_error(str(error).strip())
                self.final_result = 2
            self.teardown()
            end_servers()
            self.reporter.complete_run()
        return int(self.final_result)


class OneByOne(_Whole):
    """One step after the other, in this process; but where there are several servers, a step of each at once."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Everything but trainings as it becomes ready, then a training, and so on."""
        talks = Talks(self.execute_task)
        held: deque[Any] = deque()
        generator, more = task_dispatcher.generator, True
        node: Any = None
        while not self._stop_running:
            if more:
                try:
                    node = generator.send(node)
                except StopIteration:
                    more = False
            if not more or node == HOLD_ON:
                node = self._done(talks, held)
                if node is None:
                    return
            elif self.select_task(node, task_dispatcher.tasks):
                kept = held.append if training_of(node.task) is not None else talks.add if server_of(node.task) else None
                if kept is None:
                    self.process_task_result(node, self.execute_task(node.task))
                else:
                    kept(node)
                    node = None
        while talks.talking:  # what has begun on other servers comes to its end
            self.process_task_result(*talks.next())

    def _done(self, talks: Talks, held: deque[Any]) -> Any:
        """The next step that is done, of those that were held back; None where there is none."""
        if talks.begin():
            node, failure = talks.next()
        elif held:
            node = held.popleft()
            failure = self.execute_task(node.task)
        else:
            return None
        self.process_task_result(node, failure)
        return node


class _SideBySide(_Whole):
    """Several steps at once."""

    def _run_tasks_init(self, task_dispatcher: Any) -> None:
        super()._run_tasks_init(task_dispatcher)
        self.room = most_at_once()
        self.held: dict[tuple[str, int], deque[Any]] = {}  # trainings by what they take
        self.taken: Counter[str] = Counter()
        self.running: dict[str, tuple[str, int]] = {}  # training -> what it takes

    def process_task_result(self, node: Any, base_fail: Any) -> None:
        """A step has ended."""
        kind, count = self.running.pop(node.task.name, ("", 0))
        self.taken[kind] -= count
        super().process_task_result(node, base_fail)

    def get_next_job(self, completed: Any) -> Any:
        """The next job for a process that is free: doit's JobTaskPickle; JobHold where there is none yet; None where there will be none."""
        if self._stop_running:
            return None
        node = completed
        while True:
            try:
                node = self.task_dispatcher.generator.send(node)
                ended = False
            except StopIteration:
                ended = True
            if ended or node == HOLD_ON:
                node = self._training_with_room()
                if node is not None:
                    return self._job(node)
                if ended and not any(self.held.values()):
                    return None
                self.free_proc += 1
                return JobHold()
            if not self.select_task(node, self.tasks):
                continue
            if training_of(node.task) is None or (self._leaves_one() and self._has_room(*taken_by(node.task))):
                return self._job(node)
            self.held.setdefault(taken_by(node.task), deque()).append(node)
            node = None

    def _leaves_one(self) -> bool:
        """Is there one process more than trainings, for what is cheap?"""
        return bool(len(self.running) + 1 < self.num_process)

    def _training_with_room(self) -> Any:
        for taken, nodes in self.held.items():
            if nodes and self._has_room(*taken):
                return nodes.popleft()
        return None

    def _has_room(self, kind: str, count: int) -> bool:
        # One that asks for more than there is runs alone, and says so.
        return bool(not self.taken[kind] or self.taken[kind] + count <= self.room[kind])

    def _job(self, node: Any) -> Any:
        if training_of(node.task) is not None:
            kind, count = self.running[node.task.name] = taken_by(node.task)
            self.taken[kind] += count
        made_late = node.task.loader is DelayedLoaded and self.Child is MRunner.Child
        return JobTask(node.task) if made_late else JobTaskPickle(node.task)


class InProcesses(_SideBySide, MRunner):
    """`doit -n N`."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run; whatever ends it, its processes end too."""
        try:
            super().run_tasks(task_dispatcher)
        except BaseException:
            with held_back():
                for process in active_children():
                    process.terminate()
            raise

    def _run_start_processes(self, job_q: Any, result_q: Any) -> Any:
        # Held back, as a process begins with this one's handlers, which are not for it; and threads must never get a signal, or else this one,
        # which alone runs handlers, goes on with waiting.
        with held_back():
            processes = super()._run_start_processes(job_q, result_q)
            threading.Thread(target=end_with_child, args=(processes,), daemon=True).start()
        return processes

    def execute_task_subprocess(self, job_q: Any, result_q: Any, reporter_class: Any) -> None:
        """Work through jobs, in a process of its own that ends with the one that started it."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                # At once, whatever it does: its trainer ends with it, and what it has half done is taken for nothing. A handler of Python's would
                # have to wait for what this process waits for.
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        threading.Thread(target=end_with_parent, daemon=True).start()
        try:
            super().execute_task_subprocess(job_q, result_q, reporter_class)
        finally:
            end_servers()


class InThreads(_SideBySide, MThreadRunner):
    """`doit -n N -P thread`."""


def of(*running: Any, processes: int, kind: str) -> Runner:
    """The runner for so many processes (0: this one alone) or threads; `running` is what all of doit's runners take. Raises doit's InvalidCommand."""
    if processes == 0:
        return OneByOne(*running)
    if kind == "process" and _forks():
        return InProcesses(*running, processes)
    if kind in {"process", "thread"}:
        return InThreads(*running, processes)
    msg = f"Invalid parallel type {kind}"
    raise InvalidCommand(msg)


def _forks() -> bool:
    """Can a process be copied as it is? Runs and their databases can't be sent to a new one; there threads do."""
    if "fork" not in get_all_start_methods():
        return False
    if get_start_method(allow_none=True) is None:
        set_start_method("fork")
    return get_start_method() == "fork" and bool(MRunner.available())


def end_servers() -> None:
    """Let go of the servers that steps in this process have used. Not by doit's teardown: what a thousand of these tell fills its pipe for good."""
    for run, _ in current().catalogs.values():
        run.end_servers()


def taken_by(task: Any) -> tuple[str, int]:
    """What a training takes: of the GPUs, of the CPU or elsewhere, and how many."""
    step = training_of(task)
    assert step is not None
    assert isinstance(step.subject, Model)
    return slots_of(step.subject.train.gpus, launched=bool(step.subject.train.launch))


def training_of(task: Any) -> Step | None:
    """The step of a task that trains, or None."""
    step: Step | None = step_of(task)
    return step if step is not None and step.stage == "train" else None
