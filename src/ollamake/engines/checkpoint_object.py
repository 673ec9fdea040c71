"""A checkpoint as one object of a store: first what it is and which files it has, with their digests, then their bytes.

One object, so that no reader ever sees files of two of them, whoever writes at once. Nothing of it is executed or unpickled here: a trainer reads its files
when they are those that the same job has written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ollamake.cache.verified import ChangedError, DamagedError, Entry, Read, exactly, received, sent
from ollamake.digest import canonical_json, digest_file, digest_value
from ollamake.durable import sync_folder

FORMAT = 1
LARGEST_HEAD = 4_000_000  # bytes
_LENGTH = 12  # digits before the head, and a line feed
_PART = re.compile(r"(?!\.\.?(?:/|\Z))[^/\\\0:]{1,255}")  # of a name of a file: nothing that leads out of its folder, on any system


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a checkpoint says of itself."""

    job: str  # its digest
    name: str  # of its folder, as the trainer calls it
    step: int
    files: tuple[Entry, ...]

    @property
    def text(self) -> bytes:
        """As it is in the object."""
        body = {"format": FORMAT, "job": self.job, "name": self.name, "step": self.step, "files": [asdict(entry) for entry in self.files]}
        text = canonical_json({"digest": digest_value(body), "checkpoint": body}).encode()
        return b"%0*d\n" % (_LENGTH, len(text)) + text

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return len(self.text) + sum(entry.size for entry in self.files)


def head_of(folder: Path, *, job: str, name: str, step: int) -> Head:
    """What is to be said of the checkpoint in this folder. Raises ChangedError."""
    try:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        files = tuple(Entry(name=name, size=(folder / name).stat().st_size, digest=digest_file(folder / name)) for name in names)
    except OSError as error:
        raise ChangedError(str(error)) from error
    return Head(job=job, name=name, step=step, files=files)


def written(head: Head, folder: Path) -> Iterator[bytes]:
    """The bytes of the object. Raises ChangedError."""
    yield head.text
    for entry in head.files:
        yield from sent(entry, folder / entry.name)


def read_head(read: Read, job: str) -> Head:
    """The head that the object begins with. Raises DamagedError."""
    length = exactly(read, _LENGTH + 1)
    if not (length[:-1].isdigit() and length.endswith(b"\n") and int(length) <= LARGEST_HEAD):
        msg = "it does not begin as a checkpoint does"
        raise DamagedError(msg)
    text = exactly(read, int(length))
    try:
        body: Any = json.loads(text)["checkpoint"]
        files = tuple(Entry(name=entry["name"], size=entry["size"], digest=entry["digest"]) for entry in body["files"])
        head = Head(job=body["job"], name=body["name"], step=body["step"], files=files)
        is_whole = head.text == length + text  # its digest, too
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = "its head can't be read"
        raise DamagedError(msg) from error
    if not is_whole:
        msg = "its head is not as it was written"
        raise DamagedError(msg)
    if head.job != job:
        msg = "it is one of another job"
        raise DamagedError(msg)
    _check(head)
    return head


def _check(head: Head) -> None:
    folders = {str(parent) for entry in head.files for parent in Path(entry.name).parents}
    names = [entry.name for entry in head.files]
    if not _PART.fullmatch(head.name) or head.name.startswith("."):
        msg = f"it calls itself {head.name[:60]!r}, which is no name of a folder"
        raise DamagedError(msg)
    for entry in head.files:
        if not all(_PART.fullmatch(part) for part in entry.name.split("/")) or entry.name in folders:
            msg = f"it has a file {entry.name[:60]!r}, which is no name in a folder"
            raise DamagedError(msg)
        if type(entry.size) is not int or entry.size < 0 or type(head.step) is not int:
            msg = "its head can't be read"
            raise DamagedError(msg)
    if len({*names}) != len(names) or not names:
        raise DamagedError("it has a file twice" if names else "it has no file")


def read_files(read: Read, head: Head, folder: Path) -> None:
    """Write the files behind the head into this folder, on the disk when this returns. Raises DamagedError, and OSError of the disk."""
    for entry in head.files:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            received(entry, read, file.write)
            file.flush()
            os.fsync(file.fileno())
    if read(1):
        msg = "it does not end where it should"
        raise DamagedError(msg)
    sync_folder(folder)
