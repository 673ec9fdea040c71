"""Locks that go with the process that holds them, however it ends."""

from __future__ import annotations

from typing import IO, Any


def try_lock(file: IO[Any] | int) -> bool:
    """Lock this open file, or folder, for ourselves and for those who inherit it; False where somebody else has it. Where a system has no such locks, nobody has."""
    try:
        import fcntl
    except ImportError:  # Windows: two builds are not kept apart there
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: IO[Any] | int) -> None:
    """Lock this open file, or folder, for ourselves, when whoever has it has ended."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)
