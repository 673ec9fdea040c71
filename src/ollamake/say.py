"""What is said on standard output."""

from __future__ import annotations

import io
import os
import sys

NOBODY_READS = 141  # exit code, as of shells: 128 and SIGPIPE


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
    out = sys.stdout
    out.write(f"{text}\n")
    out.flush()


def nobody_reads() -> int:
    """Who read standard output is gone (`doit | head`): the rest goes nowhere. Returns the exit code."""
    assert sys.__stdout__ is not None  # it is a pipe
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno())
    os.close(nowhere)
    return NOBODY_READS
