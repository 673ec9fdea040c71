"""The folder of a report: pages that are written whole, or not at all, and only where what they show is another."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from ollamake.catalog.values import PAGES
from ollamake.errors import BuildError
from ollamake.graph import BUILD
from ollamake.state.files import remedy, write_whole
from ollamake.survey.kept import Page

REPORT = Path(BUILD, PAGES)
FOLDERS = ("models", "datasets")  # in which there are pages alone


class Site:
    """What is there, and what is done to it."""

    def __init__(self, pages: dict[str, Page], folder: Path = REPORT) -> None:
        """`pages`: those that the last report has left, by their paths in this one."""
        self.folder = folder
        self.before = pages
        self.pages: dict[str, Page] = {}
        self.written: list[str] = []
        self.removed: list[str] = []

    def is_there(self, path: str) -> bool:
        """Is the page as the last report has left it?"""
        before = self.before.get(path)
        if before is None:
            return False
        try:
            stat = os.stat(f"{self.folder}/{path}")
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (before.size, before.modified)

    def keep(self, path: str) -> None:
        """The page stays as it is."""
        self.pages[path] = self.before[path]

    def shows(self, path: str, facts: str) -> bool:
        """Is the page there, and shows the facts with this digest already? Then it stays."""
        if not self.is_there(path) or self.before[path].facts != facts:
            return False
        self.keep(path)
        return True

    def put(self, path: str, facts: str, page: Callable[[], str | bytes]) -> None:
        """Write the page, unless it is there and shows these facts. Raises BuildError."""
        if not self.shows(path, facts):
            place = self.folder / path
            try:
                size, modified = write_page(place, page())
            except OSError as error:
                raise refused(error, place) from error
            self.wrote(path, facts, size, modified)

    def wrote(self, path: str, facts: str, size: int, modified: int) -> None:
        """The page was written."""
        self.pages[path] = Page(facts, size, modified)
        self.before[path] = self.pages[path]  # of a report that is cut off, this much is known
        self.written.append(path)

    def sweep(self) -> None:
        """Remove the pages of what left the catalog. Raises BuildError."""
        for folder in FOLDERS:
            wanted = {path.partition("/")[2] for path in self.pages if path.startswith(f"{folder}/")}
            self._sweep(folder, wanted)

    def _sweep(self, folder: str, wanted: Collection[str]) -> None:
        try:
            names = os.listdir(self.folder / folder)
        except FileNotFoundError:
            return
        for name in sorted(names):
            if name not in wanted and name.endswith((".html", ".partial")):
                try:
                    os.unlink(self.folder / folder / name)
                except OSError as error:
                    msg = f"{self.folder / folder / name}: {error.strerror}"
                    raise BuildError(msg, fix=f"{remedy(error)}, then run `doit report` again") from error
                if name.endswith(".html"):
                    self.removed.append(f"{folder}/{name}")


def write_page(place: Path, content: str | bytes) -> tuple[int, int]:
    """Write a page whole. Returns its size, and when it was modified, in nanoseconds since 1970. Raises OSError."""
    write_whole(place, content if isinstance(content, bytes) else content.encode(errors="replace"))
    stat = place.stat()
    return stat.st_size, stat.st_mtime_ns


def refused(error: OSError, place: Path) -> BuildError:
    """What is said where a page can't be written."""
    return BuildError(f"{place}: {error.strerror or error}", fix=f"{remedy(error)}, then run `doit report` again")
