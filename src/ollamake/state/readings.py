"""What was read of a catalog's files, kept on this machine for the next load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ollamake.catalog.kept import Kept
from ollamake.state.files import LOCAL, file_name, write_whole


@contextmanager
def kept_reading(catalog: str, *, may_write: bool) -> Iterator[Kept]:
    """What loads before this one have read; what this one reads is kept, where it may and can be written. `may_write`: is the run lock held?"""
    path = Path(LOCAL, "catalogs", f"{file_name(catalog)}.msgpack")
    try:
        kept = Kept(path.read_bytes())
    except OSError:
        kept = Kept()
    yield kept
    if kept.is_new and may_write:
        with suppress(OSError):
            write_whole(path, kept.encoded())
