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

INTERRUPTED = 130  # exit code, as shells have it


class Reporter(ConsoleReporter):
    """doit's console reporter in ollamake's words; tasks that are not ollamake's are shown as doit shows them."""

    desc = "steps that run, with their reasons"

    def __init__(self, outstream: Any, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self.begun = time.monotonic()
        self.handler: Any = signal.default_int_handler
        self.models: dict[str, str] = {}  # name -> "fresh", "rebuilt" or "failed"

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:  # noqa: ARG002 - the names are doit's
        """From here on Ctrl-C ends the run as an error does: targets and database stay whole, and there is no traceback."""
        self.handler = signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))

    def get_status(self, task: Any) -> None:
        """A step's turn has come."""
        step = step_of(task)
        if step is not None and isinstance(step.subject, Model):
            self.models.setdefault(step.name, "fresh")

    def execute_task(self, task: Any) -> None:
        """A step runs; it says so itself, with its reasons."""
        step = step_of(task)
        if step is None:
            super().execute_task(task)
            return
        if isinstance(step.subject, Model):
            self.models[step.name] = "rebuilt"

    def skip_uptodate(self, task: Any) -> None:
        """A step is fresh: not a word of it."""
        if step_of(task) is None:
            super().skip_uptodate(task)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A step failed; why is said at the end of the run."""
        step = step_of(task)
        self.failures.append({"task": task, "exception": fail})
        if step is not None and isinstance(step.subject, Model):
            self.models[step.name] = "failed"

    def complete_run(self) -> None:
        """The end of the run."""
        signal.signal(signal.SIGINT, self.handler)
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
        if self.models:
            self.write(f"{self.summary()}\n")

    def summary(self) -> str:
        """`2 models: 1 fresh, 1 rebuilt in 3 min 12 s`."""
        states = list(self.models.values())
        counts = [f"{states.count(state)} {state}" for state in ("fresh", "rebuilt", "failed") if state in states]
        took = "" if states.count("fresh") == len(states) else f" in {duration(time.monotonic() - self.begun)}"
        return f"{len(states)} model{'s' if len(states) != 1 else ''}: {', '.join(counts)}{took}"


def step_of(task: Any) -> Step | None:
    """The step behind a doit task, or None where it is not one of ours."""
    step = (task.meta or {}).get("ollamake")
    return step if isinstance(step, Step) else None
