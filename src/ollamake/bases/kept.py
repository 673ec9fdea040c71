"""What is made of a base once, and kept in the cache by the digest of the base's GGUF: a folder that is there whole, or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ollamake.durable import sync_folder
from ollamake.errors import BuildError
from ollamake.locks import try_lock, wait_for_lock

SLACK = 100_000_000  # bytes that stay free for others on the disk


def kept_folder(cache: Path, digest: str, form: str, version: int, *, size: Callable[[], int], make: Callable[[Path], None]) -> Path:
    """The folder of this form of the base, in `cache`/bases; where it is not there yet, `make` writes its files into an empty one.

    `size`: how many bytes it will take. Two builds that need the same folder at once: the second waits for the first. Forms of earlier versions are
    removed. Raises BuildError where it can't be written, or the disk has no room for it.
    """
    place = cache / "bases" / f"{digest.replace(':', '-')}.{form}{version}"
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with (place.parent / f".{place.name}.lock").open("w", encoding="utf-8") as lock:
            if not try_lock(lock):
                wait_for_lock(lock)
            if not place.is_dir():
                _remove_others(place, digest, form, version)
                _check_room(place.parent, size())
                _make(place, make)
    except OSError as error:
        msg = f"{place} can't be written: {error.strerror or error}"
        raise BuildError(msg, fix="make room on the disk, or give yourself the right to write there; then run `doit` again") from error
    return place


def _make(place: Path, make: Callable[[Path], None]) -> None:
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        make(partial)
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(partial)
        partial.chmod(0o755)  # what mkdtemp makes is for its user alone
        os.rename(partial, place)
        sync_folder(place.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_others(place: Path, digest: str, form: str, version: int) -> None:
    """Remove earlier versions of this form, and what builds have left that were killed in the middle: nobody else makes it while we have the lock."""
    # Without a form: the only one that there was before there were several.
    earlier = re.compile(rf"{re.escape(digest.replace(':', '-'))}(?:\.{re.escape(form)}(?P<version>\d+))?")
    for other in place.parent.iterdir():
        match = earlier.fullmatch(other.name)
        left = other.name.startswith(f".{place.name}.") and not other.name.endswith(".lock")
        if left or (match is not None and int(match["version"] or 0) < version):
            shutil.rmtree(other, ignore_errors=True)


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SLACK:
        msg = f"{folder}: the base needs {_gigabytes(size + SLACK)} there to be trained, and the disk has {_gigabytes(free)}"
        raise BuildError(msg, fix="make room on the disk, or set XDG_CACHE_HOME to a folder on a larger one")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
