"""How a run stands, at the foot of a terminal: its stages, what runs now, how many trainings wait. Nothing is drawn before something has to run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ollamake.duration import duration
from ollamake.spelling import counted

if TYPE_CHECKING:
    from rich.text import Text

TRAIN = "train:"
HAVE_BARS = (TRAIN, "test:")  # what of these runs has a bar that says so
GAP = "  "


class View:
    """Of one run. Told by the thread that reports, drawn by another: sets and counts are replaced or read at once, never walked while they change."""

    def __init__(self, steps: Iterable[str]) -> None:
        """`steps`: all that the run comes to, fresh or not, in their order."""
        self.of_run = dict.fromkeys(steps)
        self.all = Counter(map(_stage, self.of_run))
        self.ended: Counter[tuple[str, str]] = Counter()  # stage, and how
        self.running: dict[str, float] = {}  # step or task -> when it began
        self.queue: dict[str, None] = {}  # trainings whose turn has come, and that have not begun
        self.begun = time.monotonic()
        self.has_begun = False  # has anything run, and is the run not over?
        self.shown = self.was_shown = False

    def looks_at(self, name: str) -> None:
        """The turn of a step has come: it is fresh, or runs as soon as there is room."""
        if name.startswith(TRAIN) and name in self.of_run:
            self.queue[name] = None

    def begins(self, name: str) -> None:
        """A step, or a task of the user's, runs. What the latter write is not ours to place: meanwhile there is nothing at the foot but bars."""
        self.queue.pop(name, None)
        self.running[name] = time.monotonic()
        self.has_begun = True
        self._show()

    def ends(self, name: str, how: str) -> None:
        """A step has ended, `how`: as reporter's words are."""
        self.queue.pop(name, None)
        self.running.pop(name, None)
        if name in self.of_run:
            self.ended[_stage(name), how] += 1
        if self.has_begun:
            self._show()

    def close(self) -> None:
        """The run is over: take it off the screen."""
        self.has_begun = False
        if self.was_shown:
            from ollamake.bars import end

            end()

    def _show(self) -> None:
        wanted = self.has_begun and all(name in self.of_run for name in list(self.running))
        if wanted != self.shown:
            from ollamake.bars import shared

            self.shown, self.was_shown = wanted, True
            shared().stand(self.lines if wanted else None)

    def lines(self, width: int) -> list[Text]:
        """What is to be read there, a line each, in so many columns."""
        from rich.text import Text

        now = time.monotonic()
        lines = [line for line in (self._now(now, width), self._stages(now, width)) if line]
        texts = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
        for text in texts:
            text.highlight_regex(r"\d+ failed", "red")
        return texts

    def _now(self, now: float, width: int) -> str:
        """`   now: convert:legal 3 s, package:sales 12 s`, those that have no bar."""
        running = [(name, since) for name, since in list(self.running.items()) if not name.startswith(HAVE_BARS)]
        told = [f"{name} {duration(now - since)}" for name, since in running]
        line = f"   now: {', '.join(told)}"
        while len(line) > width and len(told) > 1:
            told.pop()
            line = f"   now: {', '.join(told)} and {len(running) - len(told)} more"
        return line if told else ""

    def _stages(self, now: float, width: int) -> str:
        """`   validate 3/3  convert 12/40  train 1/40 (1 failed)  38 trainings wait  9 steps fresh  4 min 12 s`: how many of those that are not fresh are done."""
        stages, done = [], []
        for stage, count in self.all.items():
            ended = {how: self.ended[stage, how] for how in ("done", "fresh", "failed")}
            of = count - ended["fresh"]
            if of:
                failed = f" ({ended['failed']} failed)" if ended["failed"] else ""
                stages.append(f"{stage} {ended['done']}/{of}{failed}")
                done.append(ended["done"] == of)
        fresh = sum(number for (_, how), number in list(self.ended.items()) if how == "fresh")
        waiting = [f"{counted(len(self.queue), 'training')} wait{'' if len(self.queue) > 1 else 's'}"] if self.queue else []
        rest = [*waiting, *([f"{counted(fresh, 'step')} fresh"] if fresh else []), duration(now - self.begun)]
        for some in (
            [*stages, *rest],
            [*(stage for stage, is_done in zip(stages, done, strict=True) if not is_done), *rest],
            [*(stage for stage, is_done in zip(stages, done, strict=True) if not is_done), *waiting],
        ):
            line = f"   {GAP.join(some)}"
            if len(line) <= width:
                return line
        return line


def _stage(step: str) -> str:
    return step.partition(":")[0]
