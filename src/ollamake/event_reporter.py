"""The reporter of `doit --quiet`, and that of `doit --json`, which has the same to tell for programs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from doit.exceptions import BaseFail, UnmetDependency

from ollamake.call import current
from ollamake.errors import without_fix
from ollamake.events import begins
from ollamake.reporter import Reporter, step_of
from ollamake.say import screen


class QuietReporter(Reporter):
    """Says what failed, what is to be heeded, and one line that sums it up."""

    desc = "failures and the last line"
    is_live = False

    def execute_task(self, task: Any) -> None:
        """A step or task runs: not a word of it."""

    def skip_uptodate(self, task: Any) -> None:
        """A step or task is fresh."""
        self.done(task, fresh=True)

    def skip_ignore(self, task: Any) -> None:
        """A task is left out, as the user has told doit."""


class EventReporter(QuietReporter):
    """Tells each step as events; see events.schema.json."""

    desc = "a JSON object a line for each event of the run"

    def __init__(self, outstream: Any, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self.since: dict[str, float] = {}
        self.outcome: dict[str, Any] = {}  # what the run came to, when it has ended

    def write(self, text: str) -> None:
        """All that there is to write is told otherwise."""

    def execute_task(self, task: Any) -> None:
        """A step runs, and tells itself why; of a task of the user's nobody else tells."""
        self.since[task.name] = time.monotonic()
        if step_of(task) is None and task.actions:
            begins(task.name, ["asked for"])

    def add_success(self, task: Any) -> None:
        """A step is done."""
        super().add_success(task)
        if task.actions:
            told = (task.values or {}).get("ollamake", {})
            ended = {"fresh": bool(told.get("fresh")), "from_cache": "from cache" in told, "edited": told.get("block", {}).get("edited", [])}
            tell("step done", step=task.name, seconds=self.seconds(task), **ended)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A step failed, or is not done for one that did."""
        super().add_failure(task, fail)
        if not task.actions:
            return
        if isinstance(fail, UnmetDependency):
            tell("step not done", step=task.name)
        else:
            message, fix = without_fix(str(fail.get_msg()).strip())
            tell("step failed", step=task.name, seconds=self.seconds(task), message=message, fix=fix)

    def cleanup_error(self, exception: BaseFail) -> None:
        """A teardown of the user's failed."""
        tell("said", text=str(exception.get_msg()), warning=True)

    def seconds(self, task: Any) -> float:
        """How long it took."""
        now = time.monotonic()
        return round(now - self.since.pop(task.name, now), 3)

    def tell_end(self) -> None:
        """What there is to say of the run as a whole; `run ends` comes when its exit code is known."""
        for error in self.runtime_errors:
            tell("said", text=error, warning=True)
        self.tell_warnings()
        self.outcome = {
            "summary": self.summary() if self.states or current().seals else "",
            "models": self.counts(),
            "seconds_reused": round(self.seconds_reused(), 1),
            "adapters_from_cache": len(self.from_cache),
            "failed": self.failed,
            "go_on": shlex.join(("doit", *current().typed)) if self.failed else None,
        }


def tell(event: str, **facts: Any) -> None:
    """Tell programs of an event, where some listen."""
    if screen.tell is not None:
        screen.tell({"event": event, **facts})
