"""What is said on standard output."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

NOBODY_READS = 141  # exit code, as of shells: 128 and SIGPIPE


class Screen:
    """What threads that write to the terminal have in common."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # of whoever writes
        self.above: Callable[[str], None] | None = None  # writes lines above the live bars, while there are some


screen = Screen()
if hasattr(os, "register_at_fork"):  # another thread may have had the lock, and the bars are the parent's
    os.register_at_fork(after_in_child=lambda: Screen.__init__(screen))


def take_any_text() -> None:
    """Have what standard output can't write be written by its number: a message that quotes it is no traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def say(text: object) -> None:
    """Print this at once, as lines of its own.

    Not `print`: steps may run in threads, each of which puts another object into sys.stdout, and `print` holds no reference to the one that it writes to:
    Python goes down when that is gone meanwhile. One write: of several, the lines of two threads would mix.
    """
    put(sys.stdout, f"{text}\n")


def put(out: Any, lines: str) -> None:
    """Write whole lines to this stream at once; above the live bars, where it is a terminal that has some."""
    with screen.lock:
        if screen.above is not None and out.isatty():
            screen.above(lines)
        else:
            out.write(lines)
            out.flush()


def nobody_reads() -> int:
    """Who read standard output is gone (`doit | head`): the rest goes nowhere. Returns the exit code."""
    assert sys.__stdout__ is not None  # it is a pipe
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno())
    os.close(nowhere)
    return NOBODY_READS
