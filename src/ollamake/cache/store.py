"""Where the objects of a cache are: a folder, or whatever fsspec knows. Each call has so long to answer, and no longer.

fsspec and its libraries are imported when the first call is made: a run that trains nothing imports none of them.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import IO, Any, TypeVar

from ollamake.cache.calls import Beat, Call
from ollamake.cache.failures import raise_told
from ollamake.cache.opening import StoreError, opened, opened_kind
from ollamake.cache.shared_folder import give_rights, make_folder
from ollamake.cache.written import written_at

BLOCK = 8 << 20  # bytes that are asked for and sent at once
MOST_BLOCKS = 9_000  # of one object; S3 takes 10,000
AT_ONCE = 16  # requests
ON_ITS_WAY = "tmp"  # folder of what is being written
WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "memory"}  # there, to make a folder makes nothing, or a bucket

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object that is there."""

    path: str  # below the cache's own place
    size: int  # bytes
    written: float | None  # when, in seconds since 1970, if it is told


class Store:
    """The objects at one url, by their paths."""

    def __init__(self, url: str, timeout: float, stall: float = 30.0) -> None:
        """`timeout`: seconds that a call may take; `stall`: that a transfer may stand still. A folder's url is its path."""
        self.url = url
        self.timeout = timeout
        self.stall = max(timeout, stall)
        self._place: tuple[Any, str] | None = None  # filesystem and path, once it was opened
        self._guard = threading.Lock()

    def read(self, path: str, use: Callable[[Callable[[int], bytes], int], T]) -> T | None:
        """What `use` makes of an object's bytes, given what reads them, and their number; None where there is none. Raises StoreError, and what `use` raises."""

        def work(beat: Beat) -> T | None:
            try:
                file: IO[bytes] = self._fs.open(self._at(path), "rb", block_size=BLOCK)
                with file:
                    beat()
                    size = file.seek(0, os.SEEK_END)
                    file.seek(0)

                    def read(count: int) -> bytes:
                        beat()
                        return file.read(count)

                    return use(read, size)
            except FileNotFoundError:  # also where it is pruned in this moment
                return None

        return self._within(work)

    def write(self, path: str, pieces: Iterable[bytes], size: int, *, replace: bool = False) -> bool:
        """Have an object there, whole or not at all. Where one is already, that one stays, unless it is to be replaced. Returns whether it is ours.

        Raises StoreError, and what `pieces` raises.
        """
        partial = f"{ON_ITS_WAY}/{uuid.uuid4().hex}.partial"

        def work(beat: Beat) -> bool:
            if not replace and self._is_there(path):
                return False
            self._make_folders(path, partial)
            try:
                with self._fs.open(self._at(partial), "wb", block_size=max(BLOCK, size // MOST_BLOCKS)) as file:
                    beat()
                    for piece in pieces:
                        file.write(piece)
                        beat()
                beat()
                if not replace and self._is_there(path):  # meanwhile
                    return False
                self._move(self._at(partial), self._at(path), replace=replace)
            finally:
                self._drop(partial)
            return True

        return self._within(work)

    def listed(self, folder: str, *, limit: float | None = None) -> list[Listed]:
        """The objects below a folder. Raises StoreError."""

        def work(_: Beat) -> list[Listed]:
            self._fs.invalidate_cache()  # somebody else may have written since
            try:
                found: dict[str, dict[str, Any]] = self._fs.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return []
            start = len(self._root) + 1
            return [Listed(path=path[start:], size=int(facts.get("size") or 0), written=written_at(facts)) for path, facts in sorted(found.items())]

        return self._within(work, limit)

    def there(self, paths: Iterable[str]) -> set[str]:
        """Those of these objects that are there. Raises StoreError."""

        def work(beat: Beat) -> set[str]:
            def is_there(path: str) -> bool:
                found = self._is_there(path)
                beat()
                return found

            wanted = list(paths)
            if not self._is_object_store:
                return {path for path in wanted if is_there(path)}
            with ThreadPool(AT_ONCE) as threads:  # each is a request; who is given up waits for none of them, as no daemon is waited for
                asked = threads.imap_unordered(lambda path: (path, is_there(path)), wanted)  # the first fault ends it
                return {path for path, found in asked if found}

        return self._within(work)

    def remove(self, path: str) -> None:
        """Remove an object, if it is there. Raises StoreError."""

        def work(_: Beat) -> None:
            if self._is_there(path):
                with suppress(FileNotFoundError):  # somebody else was faster
                    self._fs.rm_file(self._at(path))

        self._within(work)

    def clear(self) -> None:
        """Remove all that is there, and what was on its way there. Raises StoreError."""

        def work(_: Beat) -> None:
            self._fs.invalidate_cache()
            if self._fs.exists(self._root):
                self._fs.rm(self._root, recursive=True)

        self._within(work)

    def reach(self) -> None:
        """Ask it for anything. Raises StoreError where it does not answer."""
        self._within(lambda _: self._is_there("adapters"))

    def _opened(self) -> tuple[Any, str]:
        with self._guard:  # several threads may train
            if self._place is None:
                self._place = opened(self.url)
            return self._place

    @property
    def _fs(self) -> Any:
        return self._opened()[0]

    @property
    def _root(self) -> str:
        return self._opened()[1]

    @property
    def _is_folder(self) -> bool:
        return "file" in self._fs.protocol

    @property
    def _is_object_store(self) -> bool:
        return bool(WITHOUT_FOLDERS.intersection([self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _is_there(self, path: str) -> bool:
        self._fs.invalidate_cache()  # somebody else may have written since
        try:
            self._fs.info(self._at(path))
        except FileNotFoundError:
            return False
        return True

    def _make_folders(self, *paths: str) -> None:
        for folder in (self._at(path.rpartition("/")[0]) for path in paths):
            if self._is_folder:
                make_folder(folder, self._root)
            elif not self._is_object_store:
                self._fs.makedirs(folder, exist_ok=True)

    def _move(self, source: str, target: str, *, replace: bool) -> None:
        from fsspec.spec import AbstractFileSystem

        if self._is_folder:
            give_rights(source, self._root)
            os.replace(source, target)
        elif self._is_object_store or getattr(self._fs.mv, "__func__", None) is AbstractFileSystem.mv:  # a copy, at once there as a whole
            self._fs.cp_file(source, target)
        else:
            if replace and self._fs.exists(target):
                self._fs.rm_file(target)
            self._fs.mv(source, target)

    def _drop(self, partial: str) -> None:
        """Remove what was on its way, if it still is; what can't be removed, `doit cache prune` finds."""
        try:
            if self._is_there(partial):
                self._fs.rm_file(self._at(partial))
        except Exception:  # noqa: BLE001 - libraries raise what they like, and what went wrong before is what counts
            return

    def _within(self, work: Callable[[Beat], T], limit: float | None = None) -> T:
        """Do the work in a thread; wait as long as it goes on. Raises StoreError where it stands still, or anything of a library goes wrong."""
        if self._place is None:
            opened_kind(self.url)  # imports its library, which may take longer than a store may
        state = Call(time.monotonic() + (self.timeout if limit is None else limit), self.stall if limit is None else limit)
        threading.Thread(target=state.do, args=(work,), daemon=True).start()
        while not state.ended.wait(min(1.0, max(0.0, state.until - time.monotonic()))):
            if time.monotonic() >= state.until:
                state.is_abandoned = True
                msg = "does not answer"
                raise StoreError(msg, f"nothing for {(self.stall if state.has_begun else self.timeout):g} s")
        if state.error is not None:
            raise_told(state.error, self.url)
        return state.result  # type: ignore[no-any-return]
