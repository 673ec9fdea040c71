"""A catalog's cache, as a run uses it: what can't be had is said once, and the run goes on without. Nothing of it makes a step fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollamake.cache.key import PACKED, Key
from ollamake.cache.once import Once
from ollamake.cache.opening import StoreError
from ollamake.call import current
from ollamake.catalog.values import Cache
from ollamake.errors import with_fix
from ollamake.said import cleaned
from ollamake.say import say, warn

if TYPE_CHECKING:
    from ollamake.cache.objects import Manifest
    from ollamake.cache.store import Store

STALL = 30.0  # seconds that a transfer may stand still
WITHOUT = "this run goes on without it"


class SharedCache:
    """The cache of one catalog, for the processes of one run. Made before these are."""

    def __init__(self, facts: Cache, stall: float = STALL) -> None:
        """`stall`: seconds that a transfer may stand still."""
        self.facts = facts
        self.stall = stall
        self.unread, self.unwritten, self.too_large = Once(), Once(), Once()
        self.damaged: set[str] = set()  # paths of objects that were refused, and will be replaced

    @cached_property
    def store(self) -> Store:
        """Where it is. Imported here: a run that trains nothing imports none of it."""
        from ollamake.cache.store import Store

        return Store(str(self.facts.url), self.facts.timeout, self.stall)

    @property
    def reads(self) -> bool:
        """Is it asked?"""
        return self.facts.read and not self.unread.happened

    @property
    def writes(self) -> bool:
        """Is anything put into it?"""
        return self.facts.write and not self.unread.happened and not self.unwritten.happened

    def take(self, key: Key, folder: Path, check: Callable[[Manifest], None], *, what: str) -> Manifest | None:
        """The object of this key, its files in the folder, whole and as they were written; None where there is none that can be had.

        `check` raises DamagedError where it is not what is wanted, before anything is written. `what` is wanted: for people.
        """
        if not self.reads:
            return None
        from ollamake.cache.unpacking import NotHereError, unpacked
        from ollamake.cache.verified import DamagedError

        path = key.path
        try:
            return self.store.read(path, lambda read, size: unpacked(read, size, key, folder, check))
        except DamagedError as error:
            self.refuse(key, str(error), what=what)
        except NotHereError as error:
            say(f"   {what}: warning: {path} of the cache can't be written here: {error}")
        except StoreError as error:
            if self.unread.is_first():
                self.warn(error, WITHOUT)
        return None

    def there(self, paths: Iterable[str]) -> set[str]:
        """Those of these objects that it has; none where it can't be asked, which is said on standard error."""
        if not self.reads:
            return set()
        try:
            return self.store.there(paths)
        except StoreError as error:
            if self.unread.is_first():
                warn(self.as_warning(error, "what it has is not known" if current().only_looks else WITHOUT))
        return set()

    def refuse(self, key: Key, why: str, *, what: str) -> None:
        """Say that an object is not taken; what is made instead replaces it."""
        self.damaged.add(key.path)
        end = "; made here instead" if current().trains or key.kind == PACKED else ""
        say(f"   {what}: warning: {key.path} in the cache is refused: {cleaned(why)}{end}")

    def keep(self, key: Key, folder: Path, digests: Mapping[str, str], facts: Mapping[str, Any]) -> bool:
        """Put these files into the cache. Returns whether they are there by us: where somebody was faster, theirs stay.

        `digests`: of the files, by their names; `facts`: the receipt of the training. Where that fails, it is said once, and no more is put there in this run.
        """
        if not self.writes:
            return False
        from ollamake.cache.verified import ChangedError

        try:
            return self.put(key, folder, digests, facts) > 0
        except (ChangedError, OSError):  # edited or removed by hand, a moment ago: the next build says so
            return False
        except StoreError as error:
            if self.unwritten.is_first():
                self.warn(error, "nothing more is written to it in this run")
        return False

    def put(self, key: Key, folder: Path, digests: Mapping[str, str], facts: Mapping[str, Any]) -> int:
        """As `keep`; returns the bytes of the object, 0 where it is not there by us. Raises StoreError, ChangedError and OSError."""
        from ollamake.cache.objects import Manifest, written
        from ollamake.cache.verified import Entry

        path = key.path
        files = tuple(Entry(name=name, size=(folder / name).stat().st_size, digest=digest) for name, digest in digests.items())
        manifest = Manifest(key=key, files=files, facts=json.loads(json.dumps(facts)))
        if key.kind == PACKED and not self._make_room(path, manifest.size):
            return 0
        is_ours = self.store.write(path, written(manifest, folder), manifest.size, replace=path in self.damaged)
        self.damaged.discard(path)
        return manifest.size if is_ours else 0

    def _make_room(self, path: str, size: int) -> bool:
        """Remove the oldest packed weights until there is room for so many bytes. Returns whether there is, and need for it. Raises StoreError."""
        limit = self.facts.packed or 0
        if size > limit:
            if self.too_large.is_first():
                say(f"   {self.facts.mark}: warning: served weights of {size / 1e9:.1f} GB do not fit into cache.packed, and are not shared")
            return False
        there = self.store.listed(PACKED)
        if any(one.path == path for one in there) and path not in self.damaged:
            return False
        total = sum(one.size for one in there)
        for one in sorted(there, key=lambda one: one.written or 0.0):
            if total + size <= limit:
                break
            self.store.remove(one.path)
            total -= one.size
        return True

    def warn(self, error: StoreError, end: str) -> None:
        """Say what can't be had."""
        say("   " + self.as_warning(error, end).replace("\n", "\n   "))

    def as_warning(self, error: StoreError, end: str) -> str:
        """What can't be had, and what `end` comes of it."""
        text = f"{self.facts.mark}: warning: the cache at {cleaned(str(self.facts.url))} {error.what}: {error.why}; {end}"
        return with_fix(text, error.fix)


def shared_cache(facts: Cache | None, others: Iterable[SharedCache | None]) -> SharedCache | None:
    """The cache that a catalog says: the one of another catalog of the run, where that says the same."""
    if facts is None:
        return None
    same = (other for other in others if other is not None and replace(other.facts, mark=facts.mark) == facts)
    return next(same, None) or SharedCache(facts)
