"""What has happened since the lock was last written: a line for each finished step, on the disk before the next one begins."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from ollamake.durable import sync_folder


class Journal:
    """A file of JSON lines that survives the death of its writer at any moment; only the last line can be torn, and it is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line; it is on the disk when this returns. Raises OSError, and leaves the journal as it was."""
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self.path.open("a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and not _ends_whole(file):
                line = b"\n" + line  # a torn line stays apart
            try:
                _write(file, line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if is_new:
            sync_folder(self.path.parent)

    def entries(self) -> list[dict[str, Any]]:
        """All whole lines, in their order."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        found = (_entry(line) for line in content.split(b"\n"))
        return [entry for entry in found if entry is not None]

    def clear(self) -> None:
        """Begin anew: what was in it is kept elsewhere now."""
        self.path.unlink(missing_ok=True)


def _write(file: Any, line: bytes) -> None:
    if file.write(line) < len(line):  # a disk that gets full takes a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _ends_whole(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:  # torn: the machine died while it was written
        return None
    return value if isinstance(value, dict) else None
