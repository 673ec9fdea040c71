"""Files that are sent by their content: to a node, once, where it keeps them for all trainings that come."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ollamake.digest import digest_file, digest_value
from ollamake.durable import sync_folder
from ollamake.errors import BuildError
from ollamake.locks import try_lock, wait_for_lock

CHUNK = 64 << 20  # bytes that are sent at once
SLACK = 100_000_000  # bytes that stay free for others on a node's disk
VERIFIED = 1_000_000_000  # when files were written, as they say: a time at which nobody writes into one
ONE_FILE = "base.gguf"  # how a thing that is one file is called on the node


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file of what is sent."""

    name: str  # inside of a folder; empty where the file is all that there is
    digest: str
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file, or a folder of files, as a node has to have it."""

    digest: str  # of the file; of a folder, that of its files' digests by their names
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of it all."""
        return sum(part.size for part in self.parts)

    def as_json(self) -> dict[str, Any]:
        """As it is told to other processes and machines."""
        return {"digest": self.digest, "parts": [asdict(part) for part in self.parts]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Wanted:
        """What `as_json` has told."""
        return cls(digest=told["digest"], parts=tuple(Part(**part) for part in told["parts"]))


class _Known:
    """Digests of files by where they are, how large, and of when: many trainings of a process send the same gigabytes."""

    def __init__(self) -> None:
        self.digests: dict[tuple[str, int, int], str] = {}
        self._one = threading.Lock()

    def digest(self, path: Path) -> str:
        facts = path.stat()
        key = (os.path.realpath(path), facts.st_size, facts.st_mtime_ns)
        with self._one:  # of two that ask for the same, the second waits for what the first reads
            if key not in self.digests:
                self.digests[key] = digest_file(path)
            return self.digests[key]


_known = _Known()


def wanted(path: Path, digest: str | None = None) -> Wanted:
    """What a node needs, to have this file, whose `digest` may be known, or this folder, without what is hidden in it. Raises BuildError."""
    try:
        if not path.is_dir():
            one = Part(name="", digest=digest or _known.digest(path), size=path.stat().st_size)
            return Wanted(digest=one.digest, parts=(one,))
        parts = tuple(Part(name=name, digest=_known.digest(path / name), size=(path / name).stat().st_size) for name in _names(path))
    except OSError as error:
        msg = f"{error.filename or path} can't be read: {error.strerror}"
        raise BuildError(msg, fix="see that it is there, and that you may read it") from error
    return Wanted(digest=digest_value({part.name: part.digest for part in parts}), parts=parts)


def chunks(path: Path, what: Wanted) -> Iterator[bytes]:
    """Its bytes, part after part, in pieces of CHUNK; none of them is of two parts. Raises BuildError where it is another by now."""
    for part in what.parts:
        with (path / part.name if part.name else path).open("rb", buffering=0) as file:
            left = part.size
            while left:
                piece = file.read(min(left, CHUNK))
                if not piece:
                    msg = f"{path / part.name if part.name else path} was changed while it was sent: it is shorter now"
                    raise BuildError(msg, fix="run `doit` again")
                left -= len(piece)
                yield piece


def place_of(cache: Path, what: Wanted) -> Path | None:
    """Where a node has it, whole; None where it has to be sent. It was verified when it came: its files are there, of their sizes, and not written since."""
    folder = _folder(cache, what)
    try:
        found = [(folder / _name(part)).stat() for part in what.parts]
    except OSError:
        return None
    if any((facts.st_size, int(facts.st_mtime)) != (part.size, VERIFIED) for facts, part in zip(found, what.parts, strict=True)):
        return None
    return folder / ONE_FILE if _is_one_file(what) else folder


def received(cache: Path, what: Wanted, pieces: Iterable[bytes]) -> Path:
    """Where the node has it, when these pieces have been written. It appears whole, each file's digest verified, or not at all.

    Of two that do this at once on a node the second waits for the first, and takes what that has written. Raises BuildError where the disk has no room for it,
    or other bytes came than were sent.
    """
    folder = _folder(cache, what)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{folder.name}.lock").open("a+", encoding="utf-8") as lock:
            if not try_lock(lock):
                wait_for_lock(lock)
            if place_of(cache, what) is None:
                for left in (folder, *folder.parent.glob(f".{folder.name}.*.partial")):  # damaged, or of a task that was killed in the middle
                    shutil.rmtree(left, ignore_errors=True)
                _check_room(folder.parent, what.size)
                _receive(folder, what, pieces)
    except OSError as error:
        if error.errno is None:  # of what gives the pieces: a network's, not the disk's
            raise
        msg = f"{error.filename or folder} can't be written: {error.strerror or error}"
        raise BuildError(msg, fix="make room on the disk of this node, or give yourself the right to write there") from error
    place = place_of(cache, what)
    assert place is not None  # it has just been written
    return place


def _receive(folder: Path, what: Wanted, pieces: Iterable[bytes]) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    coming = iter(pieces)
    try:
        for part in what.parts:
            path = partial / _name(part)
            path.parent.mkdir(parents=True, exist_ok=True)
            digest, left = hashlib.sha256(), part.size
            with path.open("wb") as file:
                while left > 0 and (piece := next(coming, b"")):
                    file.write(piece)
                    digest.update(piece)
                    left -= len(piece)
                file.flush()
                os.fsync(file.fileno())
            if left or f"sha256:{digest.hexdigest()}" != part.digest:
                msg = f"{part.name or what.digest} came to this node damaged"
                raise BuildError(msg, fix="run `doit` again; if it comes again, look at the network and the memory of this node")
            os.utime(path, (VERIFIED, VERIFIED))
        for inside in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
            sync_folder(inside)
        partial.chmod(0o755)  # what mkdtemp makes is for its user alone
        os.rename(partial, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _folder(cache: Path, what: Wanted) -> Path:
    return cache / "bases" / f"sent-{what.digest.replace(':', '-')}"


def _is_one_file(what: Wanted) -> bool:
    return [part.name for part in what.parts] == [""]


def _name(part: Part) -> str:
    """Where the part is, in the folder on the node. Raises BuildError where that would be outside of it."""
    name = PurePosixPath(part.name or ONE_FILE)
    if name.is_absolute() or ".." in name.parts:
        msg = f"a file that was sent is called {part.name!r}, which is no name in a folder"
        raise BuildError(msg)
    return str(name)


def _names(folder: Path) -> list[str]:
    """The files in a folder, sorted; nothing that is hidden, as version control and downloads leave it."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend((Path(place) / name).relative_to(folder).as_posix() for name in files if not name.startswith("."))
    return sorted(found)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SLACK:
        msg = f"{folder}: the base needs {(size + SLACK) / 1e9:.1f} GB there, and the disk of this node has {free / 1e9:.1f} GB"
        raise BuildError(msg, fix="make room there, or set XDG_CACHE_HOME on the node to a folder on a larger disk")
