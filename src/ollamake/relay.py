"""Lines, events and bars of a process of `doit -n N` on a terminal: they are drawn by the one that started it, which has bars of its own there."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ollamake import bars
from ollamake.bars import Bar, Foot
from ollamake.say import EVENTS, has_bars, put, screen

OFTEN = 0.1  # seconds at least between two states of a bar that are sent
Told = dict[str, Any]


class Relay:
    """What this process has in place of bars."""

    def __init__(self, send: Callable[[Told], None]) -> None:
        self.send = send
        self.count = 0
        self.sent: dict[int, float] = {}  # bar -> when its state was sent last
        self.left: dict[int, Told] = {}  # bar -> what was not sent of it since
        self._one = threading.Lock()

    def add(self, kind: str, text: str, *, total: float | None, facts: str) -> Bar:
        """Show one more."""
        with self._one:
            self.count += 1
            added = Bar(self, kind, self.count)
            self.sent[added.task] = 0.0
            self._tell(added, add={"kind": kind, "text": text, "total": total, "facts": facts})
        return added

    def update(self, of: Bar, **facts: Any) -> None:
        """Show this of a bar, soon."""
        with self._one:
            before = self.left.get(of.task, {})
            advance = {"advance": before.get("advance", 0) + facts.get("advance", 0)} if "advance" in {*before, *facts} else {}
            self.left[of.task] = {**before, **facts, **advance}
            if time.monotonic() - self.sent[of.task] >= OFTEN:
                self._tell_state(of)
            elif not before:
                later = threading.Timer(OFTEN, self._tell_what_is_left, [of])
                later.daemon = True
                later.start()

    def remove(self, ended: Bar, *, stays: bool) -> None:
        """Show one less."""
        with self._one:
            self._tell_state(ended)
            del self.sent[ended.task]
            self._tell(ended, stays=stays)

    def stand(self, foot: Foot | None) -> None:
        """Only the process that reports knows how the run stands."""

    def end(self) -> None:
        """The process that draws knows when the run is over."""

    def _tell_what_is_left(self, of: Bar) -> None:
        with self._one:
            self._tell_state(of)

    def _tell_state(self, of: Bar) -> None:
        if of.task in self.left:
            self._tell(of, update=self.left.pop(of.task))
            self.sent[of.task] = time.monotonic()

    def _tell(self, of: Bar, **what: Any) -> None:
        self.send({"bar": (os.getpid(), of.task), **what})


def relay(send: Callable[[Told], None]) -> None:
    """From here on this process, whose standard output is a terminal, sends what it would draw and say there."""
    if screen.way == EVENTS:
        screen.tell = lambda event: send({"event": event})
    elif has_bars():
        bars.use(Relay(send))
        screen.above = lambda lines: send({"says": lines})


class Relayed:
    """What such processes have sent."""

    def __init__(self) -> None:
        self.bars: dict[tuple[int, int], Bar] = {}

    def take(self, told: Told) -> None:
        """Draw it."""
        if "event" in told:
            if screen.tell is not None:
                screen.tell(told["event"])
        elif "says" in told:
            put(sys.__stdout__, told["says"])  # what doit has put in its place is another in each thread
        elif "add" in told:
            self.bars[told["bar"]] = bars.shared().add(**told["add"])
        elif "update" in told:
            self.bars[told["bar"]].update(**told["update"])
        else:
            bars.shared().remove(self.bars.pop(told["bar"]), stays=told["stays"])
