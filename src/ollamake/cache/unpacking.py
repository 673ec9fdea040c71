"""An object of a cache -> files in a folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ollamake.cache.key import Key
from ollamake.cache.objects import NAMES, Manifest, read_files, read_manifest
from ollamake.cache.verified import DamagedError, Entry
from ollamake.said import said


class NotHereError(Exception):
    """What was read can't be written on this machine."""


def unpacked(read: Callable[[int], bytes], size: int, key: Key, folder: Path, check: Callable[[Manifest], None]) -> Manifest:
    """The manifest of the object, whose files are in the folder then. Raises DamagedError, also by `check`, and NotHereError. `size`: bytes of the object."""
    manifest = read_manifest(read, key)
    if size != manifest.size:
        raise DamagedError("it is cut off" if size < manifest.size else "it does not end where it should")
    check(manifest)
    with ExitStack() as stack:

        def write(entry: Entry) -> Callable[[bytes], Any]:
            assert entry.name in NAMES  # the manifest was read so
            try:
                file = stack.enter_context((folder / entry.name).open("xb"))
            except OSError as error:
                raise NotHereError(said(error)) from error

            def take(piece: bytes) -> None:
                try:
                    file.write(piece)
                except OSError as error:
                    raise NotHereError(said(error)) from error

            return take

        read_files(read, manifest, write)
    return manifest
