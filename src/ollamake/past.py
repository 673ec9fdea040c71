"""The catalogs of a repo as they are in git, at a commit or now, with every file that they name known to be there, and none needed but YAML."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from ollamake.catalog import Catalog
from ollamake.catalog.load import load_catalog
from ollamake.digest import digest_bytes
from ollamake.errors import BuildError
from ollamake.git import EDITED, Clone
from ollamake.graph import Step
from ollamake.state.digests import file_digest
from ollamake.state.lock_file import Block, read_lock
from ollamake.tasks import steps_in
from ollamake.trainers.port import trainer_names

POINTER = b"version https://git-lfs.github.com/spec/v1\noid "  # how a file begins that git-lfs has not fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repo at one time: which files there are, and what the lock says."""

    clone: Clone
    is_now: bool
    files: Mapping[str, str]  # path from the clone's root -> git's id of its content
    blocks: Mapping[str, Block]
    locked: Mapping[str, set[str]]  # input or target as a record names it -> its digests in the lock

    def id(self, path: str) -> str | None:
        """What is another where the file's content is; None where it is not in git."""
        return self.files.get(self.clone.path(path))

    @property
    def beside_git(self) -> set[str]:
        """The files that git does not have and the lock names as inputs, by their paths from the clone's root."""
        names = {name for block in self.blocks.values() for name in block["inputs"] if not name.startswith("base ")}
        made = {name for block in self.blocks.values() for name in block["targets"]}
        return {self.clone.path(name) for name in names - made} - self.files.keys()

    def digest(self, name: str, path: str) -> str | None:
        """The digest of a file as a record has it by this name, also where git-lfs has not fetched it; None where nobody knows it. Raises BuildError and OSError."""
        id_ = self.id(path)
        if id_ is None:
            known = self.locked.get(name, set())
            return next(iter(known)) if len(known) == 1 else None
        if not self.is_now:
            return _digest_in_git(self.clone, id_)
        try:
            with Path(path).open("rb") as file:
                start = file.read(len(POINTER) + 100)
        except FileNotFoundError:
            return None
        return _pointed_to(start) or file_digest(path)


def snapshot(clone: Clone, files: Mapping[str, str], blocks: Mapping[str, Block], *, is_now: bool) -> Snapshot:
    """The repo with these files and this lock."""
    locked: dict[str, set[str]] = {}
    for block in blocks.values():
        for kind in ("inputs", "targets"):
            for name, digest in block[kind].items():
                locked.setdefault(name, set()).add(digest)
    return Snapshot(clone=clone, is_now=is_now, files=files, blocks=blocks, locked=locked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A catalog, as far as it could be loaded."""

    catalog: Catalog | None  # None: it was not there, or had faults
    steps: tuple[Step, ...]
    fault: str  # the first, where it had any


def blocks_at(text: bytes | None, path: str) -> dict[str, Block]:
    """The blocks of a lock in git; none where it is not there, or damaged: then git alone tells."""
    try:
        return {} if text is None else read_lock(text.decode(), path)
    except (BuildError, UnicodeDecodeError):
        return {}


def catalogs_of(snapshot: Snapshot, now: Mapping[str, str], paths: Collection[str]) -> list[Loaded]:
    """The catalogs at these paths. `now`: the files of the working tree, where those with the same id are read. Raises BuildError and OSError."""
    clone = snapshot.clone
    catalogs = {clone.path(path) for path in paths}
    texts: dict[str, bytes] = {}
    to_ask: dict[str, str] = {}
    for path, id_ in snapshot.files.items():
        if path in catalogs or path.endswith((".yaml", ".yml")):
            here = clone.root / path
            if id_ == now.get(path) and here.is_file():
                texts[path] = here.read_bytes()
            elif id_ != EDITED:
                to_ask[path] = id_
    found = clone.contents(to_ask.values())
    texts.update({path: found[id_] for path, id_ in to_ask.items()})
    with _folder(clone, {path: texts.get(path, b"") for path in (*snapshot.files, *snapshot.beside_git)}):
        return [_load(path, is_there=clone.path(path) in texts) for path in paths]


@cache
def _digest_in_git(clone: Clone, id_: str) -> str:
    content = clone.contents([id_])[id_]
    return _pointed_to(content) or digest_bytes(content)


def _pointed_to(content: bytes) -> str | None:
    """The digest in a pointer of git-lfs."""
    return content.removeprefix(POINTER).partition(b"\n")[0].decode() if content.startswith(POINTER) else None


def _load(path: str, *, is_there: bool) -> Loaded:
    if not is_there:
        return Loaded(catalog=None, steps=(), fault="")
    try:
        catalog = load_catalog(Path(path), trainers=trainer_names(), only_looks=True)
        return Loaded(catalog=catalog, steps=steps_in(catalog), fault="")
    except BuildError as error:
        return Loaded(catalog=None, steps=(), fault=str(error).partition("\n")[0])


@contextmanager
def _folder(clone: Clone, files: Mapping[str, bytes]) -> Iterator[None]:
    """Work in a folder that holds these files, by their paths from the clone's root."""
    here = os.getcwd()
    with TemporaryDirectory(prefix="ollamake-") as top:
        work = Path(top, clone.prefix)
        work.mkdir(parents=True, exist_ok=True)
        made = {work}
        for path, text in files.items():
            if path.startswith("../") or os.path.isabs(path):
                continue
            place = Path(top, path)
            with suppress(FileExistsError, IsADirectoryError, NotADirectoryError):  # the lock may name what git has otherwise since
                if place.parent not in made:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    made.add(place.parent)
                place.write_bytes(text)
        os.chdir(work)
        try:
            yield
        finally:
            os.chdir(here)
