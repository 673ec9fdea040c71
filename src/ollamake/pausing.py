"""Ctrl-Z: the bars leave the terminal to the shell, and come back when the process goes on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ollamake.bars import drawn
from ollamake.say import screen

SHOW_CURSOR = b"\x1b[?25h"
SOON = 0.02  # seconds


def heed() -> None:
    """From here on a stop of this process finds no bars on its terminal. Of the main thread; not on Windows, nor where somebody else heeds it."""
    if not hasattr(signal, "SIGTSTP") or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        return
    signal.signal(signal.SIGTSTP, _pause)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTSTP, signal.SIG_DFL))  # the bars are the parent's


def _pause(number: int, _: FrameType | None) -> None:
    if screen.lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as threading.Condition asks it
        # This thread is in the middle of drawing: what is half drawn could not be taken off the screen.
        threading.Timer(SOON, os.kill, (os.getpid(), number)).start()
        return
    with _away():
        signal.signal(number, signal.SIG_DFL)  # not SIGSTOP: that would stop one too whom no shell could have go on
        signal.raise_signal(number)
        signal.signal(number, _pause)


@contextmanager
def _away() -> Iterator[None]:
    """As long as this lasts, the bars are off the screen, which has its cursor."""
    with screen.lock:
        bars = drawn()
        if bars is None:
            yield
            return
        with suppress(RuntimeError):  # a task of the user's was in the middle of writing, and goes on with that afterwards
            bars.stop()
        assert sys.__stdout__ is not None  # it is a terminal
        os.write(sys.__stdout__.fileno(), SHOW_CURSOR)
        yield
        bars.draw()
