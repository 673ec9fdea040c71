"""What a report has left for the next one: what each page is made from, and the lines of the tables. Local, and safe to delete: all is looked at then."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import msgspec
from xxhash import xxh3_128_hexdigest

import ollamake.survey
from ollamake import report
from ollamake.origin import Origin
from ollamake.report.facts import DatasetRow, Growth, Row
from ollamake.state.files import LOCAL, write_whole

FORMAT = 2
KEPT = Path(LOCAL, "report.msgpack")


class Page(msgspec.Struct, array_like=True):
    """A page that was written."""

    facts: str  # digest of what it shows
    size: int  # of its file
    modified: int  # nanoseconds since 1970


class Seen(msgspec.Struct, array_like=True):
    """What a page is made from, beside the catalog."""

    files: dict[str, int]  # how each looks
    left: dict[str, int]  # files that its steps leave behind: others only where what is remembered of a step is
    steps: list[tuple[str | None, str]]  # place and id by which its steps are remembered
    remembered: str  # digest of what is remembered of them
    tags: list[dict[str, str] | None]  # of a model on each server: tag -> digest; None: the server does not answer


class OfModel(msgspec.Struct, array_like=True):
    """A model, as it was when its page was last thought about."""

    seen: Seen
    datasets: list[str]  # that it needs
    models: list[str]  # whose adapters its training begins with
    row: Row
    line: str  # the row as HTML


class OfDataset(msgspec.Struct, array_like=True):
    """The same of a dataset."""

    seen: Seen
    reads: list[str]  # its files, and its JSON Schema
    readers: dict[str, str]  # model -> its state
    growth: str  # digest
    row: DatasetRow
    line: str  # the row as HTML


class OfCatalog(msgspec.Struct, array_like=True):
    """One catalog."""

    origin: Origin
    memory: dict[str, int]  # files in which is remembered what was done
    models: dict[str, OfModel]
    datasets: dict[str, OfDataset]


class Kept(msgspec.Struct):
    """All of it."""

    form: str = ""
    about: list[str] = []  # what each page says of the repo
    head: str | None = None  # commit that `growth` is of
    growing: str = ""  # digest of what else it is of
    growth: dict[str, tuple[Growth, ...]] = {}
    catalogs: dict[str, OfCatalog] = {}  # by path
    pages: dict[str, Page] = {}  # path in the report -> what is there


def read_kept() -> Kept:
    """What the last report has left; nothing, where that is of another ollamake, or can't be read."""
    try:
        kept = msgspec.msgpack.decode(KEPT.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return Kept(form=form())
    return kept if kept.form == form() else Kept(form=form())


def write_kept(kept: Kept) -> None:
    """Leave it for the next one. Raises OSError."""
    write_whole(KEPT, encoded(kept))


def digest_of(facts: object) -> str:
    """What is another where anything of the facts is."""
    return xxh3_128_hexdigest(encoded(facts))


def encoded(value: object) -> bytes:
    """The value in MessagePack; of a text with values of the environment, the text."""
    return msgspec.msgpack.encode(value, enc_hook=_plain)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    raise NotImplementedError


def form() -> str:
    """Names what is good for this ollamake: its version, and the files by which pages are made."""
    parts = []
    for room in (report, ollamake.survey):
        for folder, folders, names in os.walk(room.__path__[0]):
            folders[:] = sorted(set(folders) - {"__pycache__"})
            stats = ((name, os.stat(f"{folder}/{name}")) for name in sorted(names))
            parts += [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return f"{FORMAT} {version('ollamake')} {xxh3_128_hexdigest(repr(parts).encode())}"
