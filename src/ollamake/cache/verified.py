"""Files within an object of a store: each stands in what the object says of itself with its size and digest, and is held against these in both directions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIECE = 1 << 20  # bytes

Read = Callable[[int], bytes]  # gives so many bytes at most; none at the end


class DamagedError(Exception):
    """What was read is not what it should be; str() says why."""


class ChangedError(Exception):
    """A file is another by now than was said of it, or gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of an object."""

    name: str
    size: int  # bytes
    digest: str


def sent(entry: Entry, path: Path) -> Iterator[bytes]:
    """The bytes of a file. Raises ChangedError where they are not those of the entry, or can't be read."""
    digest, left = hashlib.sha256(), entry.size
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                left -= len(piece)
                yield piece
    except OSError as error:
        raise ChangedError(entry.name) from error
    if left or f"sha256:{digest.hexdigest()}" != entry.digest:
        raise ChangedError(entry.name)


def received(entry: Entry, read: Read, take: Callable[[bytes], Any]) -> None:
    """Hand on the bytes of a file. Raises DamagedError where they are not those of the entry."""
    digest, left = hashlib.sha256(), entry.size
    while left:
        piece = read(min(left, PIECE))
        if not piece:
            msg = "it is cut off"
            raise DamagedError(msg)
        digest.update(piece)
        take(piece)
        left -= len(piece)
    if f"sha256:{digest.hexdigest()}" != entry.digest:
        msg = f"{entry.name} is not as it was written"
        raise DamagedError(msg)


def exactly(read: Read, count: int) -> bytes:
    """So many bytes. Raises DamagedError where there are fewer."""
    found = b""
    while len(found) < count:
        piece = read(count - len(found))
        if not piece:
            msg = "it is cut off"
            raise DamagedError(msg)
        found += piece
    return found
