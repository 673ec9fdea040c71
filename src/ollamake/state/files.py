"""Where a repo's local memory is, and how its files are written: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from ollamake.durable import sync_folder

LOCAL = ".ollamake"  # of this machine alone; safe to delete at any time
JOURNAL = "journal.jsonl"  # there, while a build is on, or was killed
PUSHING = "pushing"  # there, while a model has its public name on a server
RECEIPT = "receipt.json"  # in an adapter's folder


def write_whole(path: Path, content: str | bytes | Iterable[str], *, durable: bool = False, mode: int | None = None) -> None:
    """Write the file so that nobody ever sees a part of it; `durable`: it is on the disk when this returns. Raises OSError, and leaves the old one.

    `mode`: who may read and write it; by default, as with any new file.

    Pieces of text are written as they come; where one fails to, the old file stays.

    One writer at a time, who holds the repo's run lock: the name of the part is fixed, so that what a killed build has left is written over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            if mode is not None:
                partial.chmod(mode)
            for piece in [content] if isinstance(content, (str, bytes)) else content:
                file.write(piece.encode() if isinstance(piece, str) else piece)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
        if durable:
            sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def remedy(error: OSError) -> str:
    """What a person does about it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room on the disk"
    return "put it there" if error.errno == errno.ENOENT else "give yourself the right to read and write there"


def file_name(path: str) -> str:
    """The path as one file may be called; no other path is called the same."""
    return path.replace("%", "%25").replace("/", "%2F")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in this file; empty where there is none that can be read."""
    try:
        content = path.read_bytes()
        try:
            value = msgspec.json.decode(content)
        except msgspec.DecodeError:  # may be what json takes all the same: NaN
            value = json.loads(content)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
