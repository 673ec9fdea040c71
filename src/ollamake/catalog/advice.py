"""What to write instead: looked for only so often, as a catalog may have one fault a thousand times, and each search goes through all that there is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ollamake.catalog.files import Files
from ollamake.spelling import nearest

if TYPE_CHECKING:
    from ollamake.catalog.sources import Source

MOST = 20  # faults of a kind for which what is meant is looked for
LONGEST = 255  # bytes of the name of a file, as nearly everywhere
LONGEST_PATH = 4095
SHOWN = 60  # characters of a path
TOO_LONG = f"write a path whose parts have at most {LONGEST} bytes"


class Advice:
    """For the faults of one load."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._given: Counter[str] = Counter()  # by kinds of faults
        self._files: dict[str, list[str]] = {}  # pattern -> what it comes to

    def name(self, kind: str, name: str, known: Iterable[str]) -> str:
        """What to write instead of an unknown name."""
        self._given[kind] += 1
        return nearest(name, known) if self._given[kind] <= MOST else f"write a {kind} that there is: the first {MOST} faults of this kind say which"

    def file(self, source: Source, path: str, pattern: str) -> str:
        """What to do where no file is at this path, or matches it; what there is in the source's folder matches the pattern."""
        if os.path.isdir(path):
            within = f"{path.rstrip('/')}/{pattern.rpartition('/')[2]}"
            return f"write {source.said(within)!r}: it is a folder"
        self._given["file"] += 1
        near = get_close_matches(path, self._matching(source, pattern), n=1, cutoff=0.8) if self._given["file"] <= MOST else ()
        return f"write {source.said(near[0])!r}, or create the file" if near else "create the file, or mend the pattern"

    def _matching(self, source: Source, pattern: str) -> list[str]:
        whole = source.below(pattern)
        if whole not in self._files:
            self._files[whole] = [path for path in self.files.matching(whole) if path != source.path]
        return self._files[whole]


def is_too_long(path: str) -> bool:
    """Can no file have this name?"""
    return len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST for part in path.split("/"))


def shown(path: str) -> str:
    """A path as a message quotes it."""
    return repr(path if len(path) <= SHOWN else f"{path[:SHOWN]}...")
