"""What is said on standard output."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

NOBODY_READS = 141  # exit code, as of shells: 128 and SIGPIPE
NOT_WRITTEN = 2  # exit code: doit's of an error while it runs
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NOT_SET = ("", "0", "false")  # values of variables of the environment that switch something on
DIM, RED, YELLOW = "2", "31", "33"  # as terminals number them


PLAIN, QUIET, EVENTS = "plain", "quiet", "events"  # ways to say it: as lines; not at all, but for warnings; to programs


class Screen:
    """What threads that write to the terminal have in common."""

    def __init__(self, way: str = PLAIN) -> None:
        self.way = way
        self.lock = threading.RLock()  # of whoever writes
        self.above: Callable[[str], None] | None = None  # writes lines above the live bars, while there are some
        self.tell: Callable[[dict[str, Any]], None] | None = None  # takes what programs are told, where the way is EVENTS


screen = Screen()
if hasattr(os, "register_at_fork"):  # another thread may have had the lock, and the bars are the parent's
    os.register_at_fork(after_in_child=lambda: Screen.__init__(screen, screen.way))


def take_any_text(*, for_programs: bool = False) -> None:
    """Have what standard output can't write be written by its number: a message that quotes it is no traceback.

    `for_programs`: it is UTF-8, whatever the locale says; of JSON nothing else is right.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    if for_programs and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: object) -> None:
    """Print this at once, as lines of its own.

    Not `print`: steps may run in threads, each of which puts another object into sys.stdout, and `print` holds no reference to the one that it writes to:
    Python goes down when that is gone meanwhile. One write: of several, the lines of two threads would mix.
    """
    if screen.tell is not None:
        screen.tell({"event": "said", "text": str(text).strip(), "warning": _is_warning(text)})
    elif screen.way == PLAIN or (screen.way == QUIET and _is_warning(text)):
        put(sys.stdout, f"{text}\n")


def warn(text: object) -> None:
    """Print a warning on standard error."""
    if screen.tell is not None:
        screen.tell({"event": "said", "text": str(text), "warning": True})
    print(text, file=sys.stderr, flush=True)


def _is_warning(text: object) -> bool:
    return "warning: " in str(text).partition("\n")[0]


def has_bars() -> bool:
    """Are bars drawn on standard output? Not in logs of CI, though some of them say that they are terminals."""
    return screen.way == PLAIN and sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and os.environ.get("CI", "").lower() in NOT_SET


def coloured(text: str, colour: str, out: Any) -> str:
    """The text in this colour, where the stream shows colours: https://no-color.org and FORCE_COLOR are heard."""
    return f"\x1b[{colour}m{text}\x1b[0m" if text and shows_colours(out) else text


def shows_colours(out: Any) -> bool:
    """Does this stream show colours?"""
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("FORCE_COLOR", "").lower()
    return forced not in NOT_SET or (out.isatty() and os.environ.get("TERM") != "dumb")


def folded(line: str, out: Any, *, indent: str = "") -> list[str]:
    """The line as it stands; where the stream is a terminal that is narrower, in several, broken between words."""
    if not out.isatty():
        return [f"{indent}{line}"]
    import shutil  # a run without work does without them
    import textwrap

    further = indent + " " * (len(line) - len(line.lstrip()) + 4)
    width = shutil.get_terminal_size().columns
    return textwrap.wrap(line, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False) or [""]


def put(out: Any, lines: str) -> None:
    """Write whole lines to this stream at once; above the live bars, where it is a terminal that has some."""
    with screen.lock:
        if screen.above is not None and out.isatty():
            screen.above(lines)
        else:
            out.write(lines)
            out.flush()


def is_unheard(error: BaseException) -> bool:
    """Can what there is to say not be written? Its reader is gone (`doit | head`), or the disk is full that it goes to: no file is named then."""
    return isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None)


def unheard(error: OSError) -> int:
    """Have the rest go nowhere. Returns the exit code. Raises the error where it is another one."""
    if not is_unheard(error):
        raise error
    assert sys.__stdout__ is not None  # it is a pipe, or a file
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno())
    os.close(nowhere)
    if isinstance(error, BrokenPipeError):
        return NOBODY_READS
    print(
        f"ERROR: \nnothing more can be written: {error.strerror}\n  fix: make room on the disk, then run it again: what is done stays done",
        file=sys.stderr,
    )
    return NOT_WRITTEN
