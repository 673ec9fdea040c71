"""How doit takes the steps of a run: what is cheap first, and never more trainings at once than the machine has room for.

A training that is ready is held back: in a run of one process until nothing cheap is left to do, in a run of several until a GPU is free. All else
is doit's own runner.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter, deque
from multiprocessing import active_children, get_all_start_methods, get_start_method, set_start_method
from typing import Any

from doit.exceptions import InvalidCommand
from doit.runner import JobHold, JobTask, JobTaskPickle, MRunner, MThreadRunner, Runner
from doit.task import DelayedLoaded

from ollamake.ending import ENDING
from ollamake.engines.this_machine import most_at_once
from ollamake.processes import end_with_child, end_with_parent, held_back
from ollamake.relay import Relayed, relay
from ollamake.sinks import feed as sinks
from ollamake.talks import CLUSTER, HERE, Talks, lane_of, taken_by, training_of
from ollamake.whole import HOLD_ON, OneByOne, Whole, end_servers


class _SideBySide(Whole):
    """Several steps at once."""

    free_proc: int
    num_process: int

    def _run_tasks_init(self, task_dispatcher: Any) -> None:
        super()._run_tasks_init(task_dispatcher)
        self.room = most_at_once()
        self.held: dict[tuple[str, int], deque[Any]] = {}  # trainings by what they take
        self.taken_here: Counter[str] = Counter()
        self.running: dict[str, tuple[str, int]] = {}  # training -> what it takes
        self.completed: deque[Any] = deque()  # doit's nodes of trainings on a cluster, of which its dispatcher is not told yet
        self.result_q = self.Queue()
        self.elsewhere = Talks(self.execute_task, lambda name: self.result_q.put({"elsewhere": name}))
        self.relayed = Relayed()
        self.may_begin = False  # processes are not copied while threads run
        self.left = self.num_process  # processes that have not been told to end

    def run_tasks(self, task_dispatcher: Any) -> None:
        """As doit's own; but what runs on a cluster takes none of the processes."""
        self._run_tasks_init(task_dispatcher)
        results, jobs = self.result_q, self.Queue()
        processes = self._run_start_processes(jobs, results)
        self.may_begin = True
        self.elsewhere.begin()
        self.left = len(processes)
        while self.left or self.elsewhere.talking:
            if self._take(results.get()):
                self._deal_out(jobs)
            assert len(processes) > self.free_proc or self.elsewhere.talking or not self.left  # or else each waits for another
        for process in processes:
            process.join()
        while not results.empty():  # of teardowns
            self._take(results.get())

    def _take(self, result: dict[str, Any]) -> bool:
        """Take what a process or a thread has told. Returns whether something has ended, so that the next steps may begin."""
        if "exit" in result:
            raise result["exit"](result["exception"])
        if "relayed" in result:
            self.relayed.take(result["relayed"])
            return False
        if "elsewhere" in result:
            node = self.taken(*self.elsewhere.next())
            self.completed.extend([] if node is None else [node])
            return True
        node = self.task_dispatcher.nodes[result["name"]]
        if "reporter" in result:
            getattr(self.reporter, result["reporter"])(node.task)
            return False
        self._process_result(node, node.task, result)
        self.completed.append(node)
        self.free_proc += 1
        return True

    def _deal_out(self, jobs: Any) -> None:
        """Give each process that is free its next job, or tell it that none will come."""
        if self._stop_running:
            self.withdraw(self.elsewhere)
        free, self.free_proc = self.free_proc, 0
        dealt = [self.get_next_job(None) for _ in range(free)]
        self.left -= dealt.count(None)
        for job in dealt:
            jobs.put(job)

    def process_task_result(self, node: Any, base_fail: Any) -> None:
        """A step has ended."""
        kind, count = self.running.pop(node.task.name, ("", 0))
        self.taken_here[kind] -= count
        super().process_task_result(node, base_fail)

    def get_next_job(self, completed: Any) -> Any:
        """The next job for a process that is free: doit's JobTaskPickle; JobHold where there is none yet; None where there will be none."""
        if self._stop_running:
            return None
        node = completed
        while True:
            node = self._next_node(node)
            if node is None or node == HOLD_ON:
                is_end, node = node is None, self._training_with_room()
                if node is not None:
                    return self._job(node)
                if is_end and not any(self.held.values()) and not self.elsewhere.talking and not self.elsewhere.waiting:
                    return None
                self.free_proc += 1
                return JobHold()
            if self.select_task(node, self.tasks):
                if self._may_go(node):
                    return self._job(node)
                node = None

    def _next_node(self, completed: Any) -> Any:
        """Doit's next node; HOLD_ON where there is none yet, None where there will be none."""
        to_tell = [completed, *self.completed] if completed is not None else list(self.completed) or [None]
        self.completed.clear()
        while to_tell:
            try:
                node = self.task_dispatcher.generator.send(to_tell.pop(0))
            except StopIteration:
                node = None
            if node is not None and node != HOLD_ON:
                self.completed.extend(to_tell)
                return node
        return node

    def _may_go(self, node: Any) -> bool:
        """May a process have it? Else it is held back, or goes on elsewhere."""
        lane = lane_of(node.task)
        if lane.startswith(CLUSTER):
            self.elsewhere.add(node, lane)
            if self.may_begin:
                self.elsewhere.begin()
            return False
        if lane != HERE or (self._leaves_one() and self._has_room(*taken_by(node.task))):
            return True
        self.held.setdefault(taken_by(node.task), deque()).append(node)
        return False

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
        return bool(not self.taken_here[kind] or self.taken_here[kind] + count <= self.room[kind])

    def _job(self, node: Any) -> Any:
        if training_of(node.task) is not None:
            kind, count = self.running[node.task.name] = taken_by(node.task)
            self.taken_here[kind] += count
        made_late = node.task.loader is DelayedLoaded and self.Child is MRunner.Child
        return JobTask(node.task) if made_late else JobTaskPickle(node.task)


class InProcesses(_SideBySide, MRunner):
    """`doit -n N`."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run; whatever ends it, its processes end too."""
        self.ends = threading.Event()
        try:
            super().run_tasks(task_dispatcher)
        except BaseException:
            self.ends.set()  # before they are ended, which would end the run as if one of them had been killed
            with held_back():
                for process in active_children():
                    process.terminate()
            raise

    def _run_start_processes(self, job_q: Any, result_q: Any) -> Any:
        # Held back, as a process begins with this one's handlers, which are not for it; and threads must never get a signal, or else this one,
        # which alone runs handlers, goes on with waiting.
        with held_back():
            processes = super()._run_start_processes(job_q, result_q)
            threading.Thread(target=end_with_child, args=(processes, lambda: self.left, self.ends), daemon=True).start()
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
        relay(lambda told: result_q.put({"relayed": told}))
        try:
            super().execute_task_subprocess(job_q, result_q, reporter_class)
        finally:
            end_servers()
            sinks.close()


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
