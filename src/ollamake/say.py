"""What steps say while they run."""

from __future__ import annotations

import sys


def say(text: object) -> None:
    """Print this at once, as lines of its own.

    Not `print`: steps may run in threads, each of which puts another object into sys.stdout, and `print` holds no reference to the one that it writes to:
    Python goes down when that is gone meanwhile. One write: of several, the lines of two threads would mix.
    """
    out = sys.stdout
    out.write(f"{text}\n")
    out.flush()
