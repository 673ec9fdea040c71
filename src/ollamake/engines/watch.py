"""Programs of a Ray worker, which are ended with it, however it ends: one process watches over all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

from ollamake.engines import keeper

# Waits for a line, and is the program then: should the worker die before the keeper knows of it, no line comes.
_GATE = 'read -r _ && exec "$0" "$@" </dev/null'
_one = threading.Lock()
LOOK = 1.0  # seconds between two looks whether the raylet is there


def begun(argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], log: IO[str], inherited: tuple[int, ...]) -> subprocess.Popen[str]:
    """A program that has begun; its standard output is a pipe, and its errors go into the log."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GATE, *argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        pass_fds=inherited,
    )
    _tell(f"+{process.pid}\n")
    assert process.stdin is not None  # it is a pipe
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.close()
    return process


def ended(process: subprocess.Popen[str]) -> None:
    """The program has ended, or has to; so has all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if process.poll() is not None else signal.SIGKILL)
    process.wait()
    _tell(f"-{process.pid}\n")
    if process.stdout is not None:
        process.stdout.close()


def _tell(line: str) -> None:
    with _one:
        if _keeper().poll() is not None:  # somebody has ended it
            _keeper.cache_clear()
        pipe = _keeper().stdin
        assert pipe is not None  # it is a pipe
        with contextlib.suppress(BrokenPipeError):
            pipe.write(line)
            pipe.flush()


@cache
def _watching() -> threading.Thread:
    thread = threading.Thread(target=_end_with_node, daemon=True)
    thread.start()
    return thread


@cache
def _keeper() -> subprocess.Popen[str]:
    _watching()
    argv = [sys.executable, "-I", "-S", keeper.__file__]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, start_new_session=True)


def _end_with_node() -> None:
    """A worker that is busy outlives its raylet, where that ends because the cluster is lost: end, and the trainings with it."""
    raylet = os.getppid()
    while os.getppid() == raylet:
        time.sleep(LOOK)
    os._exit(1)
