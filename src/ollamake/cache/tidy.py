"""What of a cache may go, and what of it is damaged."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from ollamake.cache.key import ADAPTERS, PACKED, Key, key_at
from ollamake.cache.objects import Manifest, read_files, read_manifest
from ollamake.cache.store import ON_ITS_WAY, Listed, Store
from ollamake.cache.verified import DamagedError, Read

KINDS = (ADAPTERS, PACKED)
DAY = 86_400.0  # seconds
STRANGE = "is no object of ollamake's"
_PARTIAL = re.compile(rf"{ON_ITS_WAY}/[0-9a-f]{{32}}\.partial")  # as a writer calls what it writes
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(h|d|w)")
_UNITS = {"h": DAY / 24, "d": DAY, "w": 7 * DAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something in a cache, and why it may go, stays, or is wrong."""

    path: str
    size: int  # bytes
    why: str


def age_of(text: str) -> float | None:
    """The seconds that `30d` says."""
    found = _AGE.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def listed(store: Store) -> list[Listed]:
    """All objects that are there. Raises StoreError."""
    store.reach()
    return [one for kind in KINDS for one in store.listed(kind, limit=float("inf"))]


def damaged(store: Store, objects: Iterable[Listed]) -> Iterator[Left]:
    """Those of these that are not as they were written; each is read whole. Raises StoreError."""
    for one in objects:
        why = _wrong_with(store, one)
        if why is not None:
            yield Left(path=one.path, size=one.size, why=why)


def _wrong_with(store: Store, one: Listed) -> str | None:
    key = key_at(one.path)
    if key is None:
        return STRANGE

    def read_whole(read: Read, _: int) -> bool:
        read_files(read, read_manifest(read, key), lambda _: lambda _: None)
        return True

    try:
        store.read(one.path, read_whole)
    except DamagedError as error:
        return str(error)
    return None


def left_by_writers(store: Store, now: float) -> list[Left]:
    """What writers have left that were ended more than a day ago. Raises StoreError.

    By the names that they give: `tmp` of a bucket may be that of others too, and in a folder a link to anywhere.
    """
    found = [one for one in store.listed(ON_ITS_WAY, limit=float("inf")) if _PARTIAL.fullmatch(one.path)]
    why = "was being written by somebody who was ended"
    return [Left(path=one.path, size=one.size, why=why) for one in found if one.written is not None and now - one.written > DAY]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What objects have to be to go: all of what is asked."""

    older: float | None = None  # seconds
    referred: Collection[Key] | None = None  # keys that stay; None: whether anything refers to them is not asked
    known: Callable[[set[str]], set[str]] = set  # of these commits, those that the clone has

    @property
    def is_nothing(self) -> bool:
        """Is nothing asked?"""
        return self.older is None and self.referred is None


def may_go(store: Store, objects: Iterable[Listed], asked: Asked, now: float) -> tuple[list[Left], list[Left]]:
    """Those that go, and those that seem to and stay. Raises StoreError."""
    goes: list[Left] = []
    stays: list[Left] = []
    unsure: list[tuple[Left, Key]] = []
    for one in objects if not asked.is_nothing else ():
        key = key_at(one.path)
        old = asked.older is not None and one.written is not None and now - one.written > asked.older
        if key is None:
            stays.append(Left(path=one.path, size=one.size, why=STRANGE))
        elif asked.older is not None and not old:
            continue
        elif asked.referred is None:
            goes.append(Left(path=one.path, size=one.size, why="is older than that"))
        elif key.kind == ADAPTERS and key not in asked.referred:
            unsure.append((Left(path=one.path, size=one.size, why="no lock of this repo refers to it"), key))
    commits = {left.path: _commit(store, left.path, key) for left, key in unsure}
    known = asked.known({commit for commit in commits.values() if commit})
    for left, _ in unsure:
        if commits[left.path] in known:
            goes.append(left)
        else:
            stays.append(Left(path=left.path, size=left.size, why="was trained at no commit that this clone has"))
    return goes, stays


def _commit(store: Store, path: str, key: Key) -> str:
    """The commit that an object was trained at, as far as it tells."""

    def read_head(read: Read, _: int) -> Manifest:
        return read_manifest(read, key)

    try:
        manifest = store.read(path, read_head)
    except DamagedError:
        return ""
    commit = manifest.facts.get("commit") if manifest else None
    return commit.removesuffix("+") if isinstance(commit, str) else ""
