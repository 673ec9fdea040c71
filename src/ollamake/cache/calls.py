"""Calls of libraries that may never come back: each in a thread of its own, which is given up when it stands still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

Beat = Callable[[], None]  # a transfer goes on


class _AbandonedError(Exception):
    """Nobody waits for this any more."""


class Call:
    """A call that a thread does, and how it stands."""

    def __init__(self, until: float, stall: float) -> None:
        """`until`: when it is given up, in the clock's monotonic seconds, unless it goes on; `stall`: seconds that it may stand still then."""
        self.until, self.stall = until, stall
        self.ended = threading.Event()
        self.is_abandoned = self.has_begun = False
        self.result: Any = None
        self.error: BaseException | None = None

    def beat(self) -> None:
        """It goes on. Raises where nobody waits for it any more, which ends it."""
        if self.is_abandoned:
            raise _AbandonedError
        self.has_begun = True
        self.until = time.monotonic() + self.stall

    def do(self, work: Callable[[Beat], Any]) -> None:
        """Do it; what came of it is in `result` or `error` then."""
        try:
            self.result = work(self.beat)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.error = error
        finally:
            self.ended.set()
