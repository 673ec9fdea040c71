"""What of a repo is watched, and what has changed of it since it was looked at last. Reads files; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamake.catalog.files import matching
from ollamake.digest import digest_file

LARGE = 64_000_000  # bytes from which on a file with another time counts as changed, unread
State = dict[str, tuple[Any, ...]]  # path -> size, time and inode; or, of what is not large, its digest


@dataclass
class Watched:
    """The files that people edit: as `doit ls --files --json` has them."""

    dodo: str
    catalogs: tuple[str, ...] = ()
    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    _signs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    _state: State = field(default_factory=dict)

    def take(self, told: Mapping[str, Any]) -> set[str]:
        """Watch these from now on. Returns the datasets that are new, or have other files than before."""
        before = dict(self.datasets)
        self.catalogs = tuple(told["catalogs"])
        self.datasets = {name: tuple(files) for name, files in told["datasets"].items()}
        self.patterns = tuple(told["patterns"])
        self._know()
        return {name for name, files in self.datasets.items() if before and before.get(name) != files}

    def take_catalogs(self, paths: Iterable[str]) -> None:
        """Watch these catalogs too, of which not more is known: they have faults."""
        self.catalogs = tuple(dict.fromkeys((*self.catalogs, *paths)))
        self._know()

    def _know(self) -> None:
        """Know the files that came to be watched as they are now; those that are here and are watched no more, not at all. The others are as they were seen last."""
        files = self.files
        self._state = {path: state for path, state in self._state.items() if path in files or not os.path.isfile(path)}
        self._state |= {path: state for path in files - self._state.keys() if (state := self._look(path)) is not None}

    @property
    def of_the_catalog(self) -> set[str]:
        """The files that say what there is."""
        return {self.dodo, *self.catalogs}

    @property
    def files(self) -> set[str]:
        """All of them, with those that have come to match a pattern."""
        found = {path for pattern in self.patterns for path in matching(pattern)}
        return found | self.of_the_catalog | {path for files in self.datasets.values() for path in files}

    def changed(self) -> set[str]:
        """The files whose content is another than it was the last time, that are new, or gone. What was only touched is not among them."""
        now = {path: state for path in self.files if (state := self._look(path)) is not None}
        before, self._state = self._state, now
        return {path for path in {*now, *before} if now.get(path) != before.get(path)}

    def _look(self, path: str) -> tuple[Any, ...] | None:
        try:
            found = os.stat(path)
            sign = (found.st_mtime_ns, found.st_size, found.st_ino)
            if found.st_size >= LARGE:
                return sign
            if self._signs.get(path, ())[:3] != sign:
                self._signs[path] = (*sign, digest_file(Path(path)))
            return self._signs[path][3:]
        except OSError:
            return None

    def folders(self) -> set[str]:
        """The folders in which files of these may come, go or change; below a pattern with folders in it, all that are there."""
        found = {os.path.dirname(os.path.abspath(path)) for path in self.files}
        for pattern in self.patterns:
            head = Path(pattern)
            parts = [*head.parts]
            fixed = next((place for place, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts) - 1)
            top = os.path.abspath(os.path.join(*parts[:fixed])) if fixed else os.getcwd()
            found.add(top)
            if fixed < len(parts) - 1:
                found.update(folder for folder, _, _ in os.walk(top))
        return {_there(folder) for folder in found}

    def datasets_of(self, paths: set[str]) -> list[str]:
        """The datasets that have any of these files."""
        return [name for name, files in self.datasets.items() if paths & set(files)]


def _there(folder: str) -> str:
    """The folder, or the next one above that is there: who waits for it to be made watches that."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
