"""How datasets grew: their files at the commits that changed the lock, by git alone. One walk through the history, whatever the number of datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ollamake.errors import BuildError
from ollamake.git import Clone, clone_here
from ollamake.report.facts import Growth
from ollamake.survey import commits
from ollamake.survey.commits import Change

COMMITS = 50  # that changed the lock, the youngest ones
WALKED = 2000  # commits, at most
READ = 64_000_000  # bytes of all old files whose records are counted
LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid [^\n]+\nsize (\d+)\n")
LINES = (".jsonl", ".ndjson")  # of names of files with a record on each line
NEWEST = 40  # points of a dataset, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    commit: str
    at: str
    subject: str
    files: tuple[tuple[str, str], ...]  # path, and git's id of its content


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    bytes: int
    records: int | None  # None: not counted


def growths(files: Mapping[str, Iterable[str]], locks: Iterable[str]) -> dict[str, tuple[Growth, ...]]:
    """Of each dataset, by its files: how large it was at the commits that changed one of these locks. Empty where git can't tell."""
    try:
        clone = clone_here()
        places = {name: tuple(clone.path(path) for path in paths) for name, paths in files.items()}
        points = _points(clone, places, {clone.path(lock) for lock in locks})
        sizes = _sizes(clone, points)
    except BuildError:
        return {}
    return {name: tuple(_growth(point, sizes) for point in found) for name, found in points.items() if found}


def _points(clone: Clone, places: Mapping[str, tuple[str, ...]], locks: set[str]) -> dict[str, list[_Point]]:
    """Of each dataset the commits of a lock at which it was another one, the oldest first."""
    walk = _Walk(places, commits.ids_at_head(clone))
    for change in commits.walked(clone, WALKED):
        walk.back_to(change, is_locked=not locks.isdisjoint(change.files))
        if len(walk.locked) == COMMITS:
            break
    walk.tell(places)
    return {name: _distinct(points[::-1]) for name, points in walk.found.items()}


class _Walk:
    """Back through the history."""

    def __init__(self, places: Mapping[str, tuple[str, ...]], ids: Mapping[str, str]) -> None:
        self.places = places
        self.readers: dict[str, list[str]] = {}
        for name, paths in places.items():
            for path in paths:
                self.readers.setdefault(path, []).append(name)
        self.state = {path: id_ for path, id_ in ids.items() if path in self.readers}
        self.found: dict[str, list[_Point]] = {name: [] for name in places}
        self.locked: list[Change] = []  # the commits of a lock that were come to
        self.entered = dict.fromkeys(places, 0)  # how many of those there were when the dataset came to what it is now

    def back_to(self, change: Change, *, is_locked: bool) -> None:
        """Before this commit."""
        if is_locked:
            self.locked.append(change)
        edited = {path: before for path, before in change.files.items() if path in self.readers}
        self.tell(sorted({name for path in edited for name in self.readers[path]}))
        for path, before in edited.items():
            if before is None:
                self.state.pop(path, None)
            else:
                self.state[path] = before

    def tell(self, names: Iterable[str]) -> None:
        """These are about to be others: what they are now, they became with the last commit of a lock."""
        for name in names:
            ids = tuple((path, self.state[path]) for path in self.places[name] if path in self.state)
            if len(self.locked) > self.entered[name] and ids and len(self.found[name]) < NEWEST:
                last = self.locked[-1]
                self.found[name].append(_Point(commit=last.commit, at=last.at, subject=last.subject, files=ids))
            self.entered[name] = len(self.locked)


def _distinct(points: list[_Point]) -> list[_Point]:
    return [point for place, point in enumerate(points) if place == 0 or point.files != points[place - 1].files]


def _sizes(clone: Clone, points: Mapping[str, list[_Point]]) -> dict[str, _Size]:
    """The sizes of all contents; records of those of JSON lines, as far as they may be read."""
    wanted = {id_: path for found in points.values() for point in reversed(found) for path, id_ in point.files}
    sizes = commits.sizes(clone, wanted)
    left, read = READ, []
    for id_, size in sizes.items():
        if size <= left and wanted[id_].endswith(LINES):
            left -= size
            read.append(id_)
    contents = clone.contents(read)
    return {id_: _size(contents.get(id_), size) for id_, size in sizes.items()}


def _size(content: bytes | None, size: int) -> _Size:
    if content is None:
        return _Size(bytes=size, records=None)
    pointer = LFS.match(content)
    if pointer is not None:
        return _Size(bytes=int(pointer[1]), records=None)
    return _Size(bytes=size, records=sum(1 for line in content.split(b"\n") if line.strip()))


def _growth(point: _Point, sizes: Mapping[str, _Size]) -> Growth:
    found = [sizes[id_] for _, id_ in point.files if id_ in sizes]
    counts = [size.records for size in found]
    records = None if None in counts else sum(filter(None, counts))
    return Growth(commit=point.commit, at=point.at, subject=point.subject, records=records, bytes=sum(size.bytes for size in found))
