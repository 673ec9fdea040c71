"""The files that there are in git at one time, laid out in a folder where a catalog's patterns are looked for: empty ones, and only those that it asks for."""

from __future__ import annotations

import glob
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase

from ollamake.catalog.expanded import like
from ollamake.catalog.files import Files
from ollamake.git import Tree

MAGIC = frozenset("*?[")  # what makes a name a pattern


class Mirror(Files):
    """Those of a tree and some beside git, below a folder by their absolute paths."""

    def __init__(self, top: str, tree: Tree, *, beside: Iterable[str], content: Callable[[str], bytes]) -> None:
        """`beside`: paths from the clone's root, or absolute; `content`: of a file in the tree or beside it."""
        self.top = top
        self.tree = tree
        self.content = content
        self.root = os.path.normpath(tree.clone.root)
        self.here = os.path.normpath(os.path.join(self.root, tree.clone.prefix))
        self.names = sorted({self._whole(path) for path in (*tree.files, *map(tree.place, beside))})
        self.links = {self._whole(path): self._target(path, target) for path, target in tree.links.items()}
        self._laid_out: set[tuple[str, str]] = set()
        os.makedirs(self.top + self.here, exist_ok=True)
        for path, target in self.links.items():
            self._link(path, target)

    def matching(self, pattern: str) -> list[str]:
        """The files that this pattern meant."""
        parts = pattern.split("/")
        fixed = next((size for size, part in enumerate(parts) if MAGIC.intersection(part)), len(parts))
        self._put(self._place(pattern))
        if fixed < len(parts):
            folder = "/".join(parts[:fixed]) or ("/" if os.path.isabs(pattern) else ".")
            self._lay_out(self._place(folder).rstrip("/"), "*" if parts[-1] == "**" else parts[-1])
        start = "/" if os.path.isabs(pattern) else ""
        folder, below = self._folder(pattern), pattern.lstrip("/")
        found = [below] if os.path.isfile(os.path.join(folder, below)) else glob.glob(below, root_dir=folder, recursive=True)
        return [like(start + path, pattern) for path in sorted(found) if os.path.isfile(os.path.join(folder, path))]

    def read(self, path: str) -> bytes:
        """The content of a catalog. Raises BuildError and OSError."""
        return self.content(self.tree.place(self.tree.clone.path(path)))

    def schema(self, path: str) -> bytes | None:  # noqa: ARG002 - the disk's
        """None: what git has may be a pointer of git-lfs, and tells nothing of a schema."""
        return None

    def real(self, path: str) -> str:
        """The one path of a file, by whatever links it was named."""
        return self._place(path)

    def _folder(self, path: str) -> str:
        """Where paths begin that begin like this one."""
        return f"{self.top}/" if os.path.isabs(path) else self.top + self.here

    def _whole(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.root, path))

    def _target(self, path: str, target: str) -> str:
        return self._whole(self.tree.clone.entered(os.path.join(self.root, os.path.dirname(path), target))[1])

    def _place(self, path: str) -> str:
        """Where a path of a catalog leads, as an absolute path."""
        clone = self.tree.clone
        if os.path.isabs(path):
            door = clone.entered(path)[0]
            if door not in {"", self.root}:
                self._link(door, self._whole(clone.entered(door)[1]))
        return self._whole(self.tree.place(clone.path(path)))

    def _below(self, folder: str) -> list[str]:
        return self.names[bisect_left(self.names, f"{folder}/") : bisect_left(self.names, f"{folder}0")]  # the character behind the slash

    def _lay_out(self, folder: str, name: str) -> None:
        """Have the files below a folder that are called so, and what links in it lead to."""
        if (folder, name) in self._laid_out:
            return
        self._laid_out.add((folder, name))
        for path in self._below(folder):
            if fnmatchcase(os.path.basename(path), name):
                self._put(path)
        for path, target in self.links.items():
            if path.startswith(f"{folder}/"):
                place = self._whole(self.tree.place(os.path.relpath(target, self.root))) if target.startswith(f"{self.root}/") else target
                self._put(place)
                self._lay_out(place, name)

    def _put(self, path: str) -> None:
        """Have this file, if it is one of those that there were."""
        at = bisect_left(self.names, path)
        if self.names[at : at + 1] == [path]:
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):  # the lock may name what git has otherwise since
                os.makedirs(os.path.dirname(self.top + path), exist_ok=True)
                with open(self.top + path, "wb"):
                    pass

    def _link(self, path: str, target: str) -> None:
        with suppress(FileExistsError, NotADirectoryError):
            os.makedirs(os.path.dirname(self.top + path), exist_ok=True)
            os.symlink(self.top + target, self.top + path)
