"""What a run prints beside what its steps print themselves: what failed, last, and one line that sums it up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.reporter import ConsoleReporter

from ollamake.catalog import Model
from ollamake.graph import Step
from ollamake.progress import duration
from ollamake.state import digest_cache

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STATES = ("fresh", "rebuilt", "failed", "unfinished")


class Reporter(ConsoleReporter):
    """doit's console reporter in ollamake's words; tasks that are not ollamake's are shown as doit shows them."""

    desc = "steps that run, with their reasons"

    def __init__(self, outstream: Any, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self.begun = time.monotonic()
        self.handlers: dict[int, Any] = {}
        self.waiting: dict[str, set[str]] = {}  # model -> its steps that are not done
        self.states: dict[str, str] = {}  # model -> one of STATES

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """From here on Ctrl-C and its like end the run as an error does: targets and database stay whole, and there is no traceback."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self.handlers[number] = signal.signal(number, lambda got, _: sys.exit(128 + got))
        for name in selected_with_dependencies(tasks, selected_tasks):
            step = step_of(tasks[name])
            if step is not None and isinstance(step.subject, Model):
                self.waiting.setdefault(step.name, set()).add(step.stage)
                self.states[step.name] = "fresh"

    def execute_task(self, task: Any) -> None:
        """A step runs; it says so itself, with its reasons."""
        if step_of(task) is None:
            super().execute_task(task)

    def add_success(self, task: Any) -> None:
        """A step is done."""
        self.done(task, fresh=bool((task.values or {}).get("fresh")))

    def skip_uptodate(self, task: Any) -> None:
        """A step is fresh: not a word of it."""
        self.done(task, fresh=True)
        if step_of(task) is None:
            super().skip_uptodate(task)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A step failed; why is said at the end of the run."""
        step = step_of(task)
        self.failures.append({"task": task, "exception": fail})
        if step is not None and step.name in self.states and isinstance(step.subject, Model):
            self.states[step.name] = "failed"

    def complete_run(self) -> None:
        """The end of the run."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        digest_cache().save()
        skipped = []
        for failure in self.failures:
            task, fail = failure["task"], failure["exception"]
            if isinstance(fail, UnmetDependency):
                skipped.extend([] if task.has_subtask else [task.name])
            else:
                self.write(f"\n{task.name} failed:\n{str(fail.get_msg()).strip()}\n")
        if skipped:
            self.write(f"\nnot done for that: {', '.join(skipped)}\n")
        if self.runtime_errors:
            self.write("\n".join(self.runtime_errors) + "\n")
        if self.states:
            self.write(f"{self.summary()}\n")

    def done(self, task: Any, *, fresh: bool) -> None:
        """Take a step off the list."""
        step = step_of(task)
        if step is not None and isinstance(step.subject, Model):
            self.waiting[step.name].discard(step.stage)
            if not fresh and self.states[step.name] == "fresh":
                self.states[step.name] = "rebuilt"

    def summary(self) -> str:
        """`2 models: 1 fresh, 1 rebuilt in 3 min 12 s`; a model is unfinished where the run ended before all of its steps were done."""
        states = [
            "unfinished" if self.waiting[name] and state in {"fresh", "rebuilt"} else state  # a failed one says more
            for name, state in self.states.items()
        ]
        counts = [f"{states.count(state)} {state}" for state in STATES if state in states]
        took = "" if states.count("fresh") == len(states) else f" in {duration(time.monotonic() - self.begun)}"
        return f"{len(states)} model{'s' if len(states) != 1 else ''}: {', '.join(counts)}{took}"


def step_of(task: Any) -> Step | None:
    """The step behind a doit task, or None where it is not one of ours."""
    step = (task.meta or {}).get("ollamake")
    return step if isinstance(step, Step) else None


def selected_with_dependencies(tasks: Mapping[str, Any], selected: list[str]) -> set[str]:
    """The names of the tasks that a run of these comes to."""
    found: set[str] = set()
    to_come = list(selected)
    while to_come:
        name = to_come.pop()
        if name not in found:
            found.add(name)
            to_come.extend((*tasks[name].task_dep, *tasks[name].setup_tasks))
    return found
