"""Ctrl-C and its like: they end a run as an error does, so that targets and database stay whole, and there is no traceback."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from doit.task import Task

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ending:
    """How such signals end one run."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}  # of before
        self.by: SystemExit | None = None  # what the run ends by, once it does

    def heed(self) -> None:
        """From here on they end the run."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                self.handlers[number] = signal.signal(number, self.end)

    def end(self, number: int, frame: FrameType | None) -> None:
        """End the run; but for one that ends so already: whoever asks for it again waits, unless it is a step that takes its time to end."""
        if self.by is None or sys.exc_info()[1] is not self.by or _is_in_a_step(frame):
            self.by = SystemExit(128 + number)
            raise self.by

    def no_more(self) -> None:
        """The run ends: who presses Ctrl-C again waits for its report. Signals that are held back would not do: they come by other threads."""
        for number in self.handlers:
            signal.signal(number, lambda *_: None)

    def over(self) -> None:
        """The run is over: what they do is what they did before it; but for one that they have ended, which has nothing left to do."""
        for number, handler in () if self.by else self.handlers.items():
            signal.signal(number, handler)


def _is_in_a_step(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not Task.execute.__code__:
        frame = frame.f_back
    return frame is not None
