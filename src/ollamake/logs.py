"""The ends of logs, for messages."""

from __future__ import annotations

from pathlib import Path


def last_lines(path: Path, count: int = 8) -> str:
    """The last lines of a log that say something, each set in."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-count:])
