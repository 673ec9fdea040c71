"""What programs are told of a run, by `doit --json`: JSON objects, a line each. `events.schema.json` says what is in them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from ollamake.say import DIM, EVENTS, PLAIN, coloured, say, screen

FORMAT = 1
SCHEMA = Path(__file__).with_name("events.schema.json")


def begins(step: str, reasons: Sequence[str]) -> None:
    """Say that a step begins, and why."""
    if screen.tell is None:
        why = coloured(f"({'; '.join(reasons)})", DIM, sys.stdout)
        say(f".  {step}  {why}")
    else:
        screen.tell({"event": "step begins", "step": step, "reasons": list(reasons)})


class Lines:
    """Events as lines of a stream. Any number of threads may tell some."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self._one = threading.Lock()

    def write(self, event: dict[str, Any]) -> None:
        """Write one, at once."""
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"event": event["event"], "at": at, **event}, ensure_ascii=False)
        with self._one:
            self.out.write(f"{line}\n")
            self.out.flush()


@contextlib.contextmanager
def told(out: Any) -> Iterator[Lines]:
    """Within this, what is said of the run is told as lines on this stream; a text names a file, sys.stdout means standard output.

    Whatever else is written to standard output, by programs of the user's tasks too, goes to standard error.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(out, str):
            out = stack.enter_context(Path(out).open("w", encoding="utf-8", errors="backslashreplace"))
        elif out is sys.__stdout__:
            out = stack.enter_context(_standard_output())
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        lines = Lines(out)
        before, screen.way, screen.tell = screen.way, EVENTS, lines.write
        try:
            yield lines
        finally:
            screen.way, screen.tell = before, None


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    """What is standard output now, for us alone: meanwhile its number means standard error."""
    assert sys.__stdout__ is not None
    number = sys.__stdout__.fileno()
    sys.__stdout__.flush()
    with os.fdopen(os.dup(number), "w", encoding="utf-8", errors="backslashreplace") as ours:
        os.dup2(2, number)
        try:
            yield ours
        finally:
            sys.__stdout__.flush()
            os.dup2(ours.fileno(), number)


@contextlib.contextmanager
def spoken(way: str) -> Iterator[None]:
    """Within this, all is said in this way."""
    before, screen.way = screen.way, way
    try:
        yield
    finally:
        screen.way = before if before != way else PLAIN
