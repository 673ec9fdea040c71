"""Ends trainings when the Ray worker that runs them is gone: one of these for each worker, whatever number of trainings it runs one after the other.

Its standard input has lines: `+PID`, the process group of a program that has begun; `-PID`, of one that has ended. When that closes, all that are left
are ended. Standard library alone, and quick to start: it is run by `python -I -S`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

PATIENCE = 10.0  # seconds that a program has to end when it is told to


def main() -> None:
    """Keep watch until standard input closes, then end what is left."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # what ends the worker must not end this before it
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for deadly in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, deadly)
        until = time.monotonic() + PATIENCE
        while groups and time.monotonic() < until:
            groups = {group for group in groups if _is_there(group)}
            time.sleep(0.02)


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
