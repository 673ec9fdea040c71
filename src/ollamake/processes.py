"""The processes of a run end together: by hand, by a signal, or because one of them was killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

from ollamake.ending import ENDING


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that end a run come when this is done, on systems that can hold them back."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_child(processes: Sequence[Any], wanted: Callable[[], int], ends: threading.Event) -> None:
    """A process that was killed leaves doit waiting for its result for ever: end the run, as SIGTERM does, but for one that `ends` of itself.

    So does one that a program's library has ended: fewer are left than `wanted` says have not been told to end.
    """
    left = {process.sentinel: process for process in processes}
    while left:
        for sentinel in wait(list(left)):
            process = left.pop(sentinel)
            while process.exitcode is None:  # its end is known a moment before its exit code
                time.sleep(0.01)
            if ends.is_set():
                return
            by_hand = -process.exitcode in ENDING  # as the whole run is
            if process.exitcode < 0 or len(left) < wanted():
                if not by_hand:
                    how = f"was ended by signal {-process.exitcode}" if process.exitcode < 0 else f"ended with exit code {process.exitcode}"
                    print(f"   a process of this run {how}: the run ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), -process.exitcode if by_hand else signal.SIGTERM)
                return


def end_with_parent() -> None:
    """A doit that was killed leaves its processes waiting for jobs that never come; they end here, and their trainers with them."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        sys.stdout.flush()
        os._exit(1)
