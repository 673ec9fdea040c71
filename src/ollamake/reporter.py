"""What a run prints beside what its steps print themselves: what failed, how to go on, and one line that sums it up."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doit.exceptions import BaseFail, UnmetDependency
from doit.reporter import ConsoleReporter

from ollamake.call import current
from ollamake.duration import duration
from ollamake.ending import Ending
from ollamake.say import RED, coloured, has_bars, put, warn
from ollamake.spelling import counted
from ollamake.state.digests import digest_cache

if TYPE_CHECKING:
    from ollamake.view import View

DONE, FRESH, FAILED, LEFT = "done", "fresh", "failed", "left"  # how a step ends; LEFT: not done, for one before it has failed
STATES = ("fresh", "rebuilt", "failed", "unfinished")
MOST_NAMED = 8  # tasks that failed, or were not done
WORTH_TELLING = 1.0  # seconds of training


class Reporter(ConsoleReporter):
    """doit's console reporter in ollamake's words; tasks that are not ollamake's are shown as doit shows them."""

    desc = "steps that run, with their reasons"
    is_live = True  # does it show, at the foot of a terminal, how the run stands?

    def __init__(self, outstream: Any, options: Mapping[str, Any]) -> None:
        super().__init__(outstream, options)
        self.begun = time.monotonic()
        self.ending = Ending()
        self.waiting: dict[str, set[str]] = {}  # model -> its steps that are not done
        self.states: dict[str, str] = {}  # model -> one of STATES
        self.reused: dict[str, float] = {}  # training that was not repeated -> seconds that it took
        self.from_cache: list[float] = []  # what each training took that was done elsewhere, in seconds
        self.edited: list[tuple[str, str]] = []  # what was edited while a step read it, and the step
        self.view: View | None = None

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: list[str]) -> None:
        """From here on Ctrl-C and its like end the run as an error does."""
        self.ending.heed()
        chosen = selected_with_dependencies(tasks, selected_tasks)
        for name in chosen:
            step = step_of(tasks[name])
            if step is not None and step.stage != "validate":
                self.waiting.setdefault(step.name, set()).add(step.id)
                self.states[step.name] = "fresh"
        if self.is_live and has_bars():
            from ollamake.pausing import heed
            from ollamake.view import View

            heed()
            self.view = View(step.id for task in tasks.values() if task.name in chosen and (step := step_of(task)) is not None)

    def write(self, text: str) -> None:
        """Write this; bars of trainings that still run stay below it."""
        put(self.outstream, text)

    def get_status(self, task: Any) -> None:
        """A step's turn has come."""
        if self.view is not None:
            self.view.looks_at(task.name)

    def execute_task(self, task: Any) -> None:
        """A step runs; it says so itself, with its reasons."""
        if self.view is not None and task.actions:
            self.view.begins(task.name)
        if step_of(task) is None:
            super().execute_task(task)

    def add_success(self, task: Any) -> None:
        """A step is done."""
        told = (task.values or {}).get("ollamake", {})
        fresh = bool(told.get("fresh"))
        if self.view is not None:
            self.view.ends(task.name, FRESH if fresh else DONE)
        self.done(task, fresh=fresh)
        self.from_cache.extend([told["from cache"]] if "from cache" in told else ())
        self.edited.extend((name, task.name) for name in told.get("block", {}).get("edited", ()))

    def skip_uptodate(self, task: Any) -> None:
        """A step is fresh: not a word of it."""
        if self.view is not None:
            self.view.ends(task.name, FRESH)
        self.done(task, fresh=True)
        if step_of(task) is None:
            super().skip_uptodate(task)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """A step failed; why is said at the end of the run."""
        step = step_of(task)
        if self.view is not None:
            self.view.ends(task.name, LEFT if isinstance(fail, UnmetDependency) else FAILED)
        self.failures.append({"task": task, "exception": fail})
        if step is not None and step.stage != "validate" and step.name in self.states:
            self.states[step.name] = "failed"

    def complete_run(self) -> None:
        """The end of the run."""
        if self.view is not None:
            self.view.close()
        if self.ending.by:
            self.ending.no_more()
        try:
            digest_cache().save()
            self.tell_end()
        finally:
            self.ending.over()

    def tell_end(self) -> None:
        """What there is to say of the run as a whole; what failed last, but for one line."""
        self.tell_failures()
        for name, step in self.edited:
            self.write(f"stale again: {name} was edited while {step} ran; the next `doit` does it again\n")
        self.tell_warnings()
        if self.ending.by and not self.failures:
            self.write(f"ended; what is done stays done. Go on with: {typed_again()}\n")
        if self.states or current().seals:
            self.write(f"{self.summary()}\n")
        if self.from_cache:
            self.write(f"{counted(len(self.from_cache), 'adapter')} from the cache ({duration(sum(self.from_cache))} of training by others)\n")

    def tell_warnings(self) -> None:
        """The warnings of catalogs that a seal has answered for."""
        for seal in current().seals.values():
            for warning in seal.warnings:
                warn(warning)

    def tell_failures(self) -> None:
        """What failed, whole; what was not done for that; and in the end each failure in a line, and how to go on."""
        told, skipped = [], []
        for failure in self.failures:
            task, fail = failure["task"], failure["exception"]
            if isinstance(fail, UnmetDependency):
                skipped.extend([task.name] if task.actions else [])  # the others stand for several
            else:
                said = str(fail.get_msg()).strip()
                red = coloured("failed", RED, self.outstream)
                told.append(f"{red}: {task.name}: {first_line(said)}\n")
                self.write(f"\n{task.name} {red}:\n{said}\n")
        if skipped:
            self.write(f"\nnot done for that: {named(skipped)}\n")
        if self.runtime_errors:
            self.write("\n" + "\n".join(self.runtime_errors) + "\n")
        if told:
            self.write("\n" + "".join(told) + f"then go on with: {typed_again()}\n")

    def done(self, task: Any, *, fresh: bool) -> None:
        """Take a step off the list."""
        step = step_of(task)
        if step is None or step.stage == "validate":
            return
        self.waiting.setdefault(step.name, set()).discard(step.id)
        if step.stage == "train" and fresh:
            self.reused[step.name] = seconds_of_training(step)
        if self.states.setdefault(step.name, "fresh") == "fresh" and not fresh:  # it may have come into the run by another task
            self.states[step.name] = "rebuilt"

    def summary(self) -> str:
        """`12 models: 11 fresh, 1 rebuilt in 3 min 12 s; 3 h 10 min of training reused`; a model is unfinished where the run ended before it was done."""
        counts = self.counts()
        count = sum(counts.values())
        took = "" if counts["fresh"] == count else f" in {duration(time.monotonic() - self.begun)}"
        others = [] if counts["failed"] or counts["unfinished"] else self.failed  # a push, a task of the user's, a dataset of no model
        but = f", but {named(others)} failed" if others else ""
        reused = self.seconds_reused()
        saved = f"; {duration(reused)} of training reused" if reused >= WORTH_TELLING else ""
        return f"{counted(count, 'model')}: {', '.join(f'{number} {state}' for state, number in counts.items() if number)}{took}{but}{saved}"

    @property
    def failed(self) -> list[str]:
        """The tasks that failed, without those that were not done for that."""
        return [one["task"].name for one in self.failures if not isinstance(one["exception"], UnmetDependency)]

    def counts(self) -> dict[str, int]:
        """How many models are in which of STATES."""
        states = [
            "unfinished" if self.waiting[name] and state in {"fresh", "rebuilt"} else state  # a failed one says more
            for name, state in self.states.items()
        ]
        states.extend("fresh" for seal in current().seals.values() for _ in range(seal.count))
        return {state: states.count(state) for state in STATES}

    def seconds_reused(self) -> float:
        """What the trainings took that this run did not have to repeat."""
        return sum(self.reused.values()) + sum(seal.reused for seal in current().seals.values())


def step_of(task: Any) -> Any:
    """The step behind a doit task, or None where it is not one of ours."""
    return (task.meta or {}).get("ollamake")


def typed_again() -> str:
    """The command that this run is of."""
    return shlex.join(("doit", *current().typed))


def named(tasks: list[str]) -> str:
    """Their names, as many as are read."""
    more = f" and {len(tasks) - MOST_NAMED} more" if len(tasks) > MOST_NAMED else ""
    return f"{', '.join(tasks[:MOST_NAMED])}{more}"


def first_line(said: str) -> str:
    """What a failure says, without the lines of a log that it quotes."""
    return re.sub(r"; (\S+) ends:$", r"; see \1", said.partition("\n")[0])


def seconds_of_training(step: Any) -> float:
    """What the training took whose adapter is there."""
    from ollamake.state.receipts import read_receipt, receipt_path

    receipt = read_receipt(receipt_path(step, ""))
    return receipt.seconds if receipt else 0.0


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
