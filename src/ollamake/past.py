"""The catalogs of a repo as they are in git, at a commit or now, with every file that they name known to be there, and none needed but YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from ollamake.catalog import Catalog
from ollamake.catalog.load import load_catalog
from ollamake.digest import LONGEST_POINTER, digest_bytes, pointed_to
from ollamake.errors import BuildError
from ollamake.git import EDITED, Clone, Tree
from ollamake.graph import Step
from ollamake.loading import steps_in
from ollamake.mirror import MAGIC, Mirror
from ollamake.ollama.held import with_held_bases
from ollamake.state.digests import file_digest
from ollamake.state.lock_file import Block, read_lock
from ollamake.trainers.installed import TrainerNames

ENDINGS = (".yaml", ".yml")  # of files that catalogs most likely are


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repo at one time: which files there are, and what the lock says."""

    tree: Tree
    is_now: bool
    blocks: Mapping[str, Block]
    locked: Mapping[str, set[str]]  # input or target as a record names it -> its digests in the lock

    def place(self, path: str) -> str:
        """Where a path of the catalog leads: from the clone's root, or absolute."""
        return self.tree.place(self.tree.clone.path(path))

    def id(self, path: str) -> str | None:
        """What is another where the file's content is; None where it is not in git. Of a submodule that can't be looked into: its commit."""
        place = self.place(path)
        submodule = self.tree.submodule(place)
        return self.tree.files.get(place) if submodule in {"", *self.tree.opened} else self.tree.submodules[submodule]

    def beside_git(self, but: Collection[str] = ()) -> set[str]:
        """The files that git does not have and the lock names as inputs, by their paths from the clone's root; without those of steps in `but`."""
        made = {name for block in self.blocks.values() for name in block["targets"]}
        names = {name for step, block in self.blocks.items() if step not in but for name in block["inputs"] if not name.startswith("base ")}
        paths = (re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), name) for name in names - made)
        return {self.tree.clone.path(path) for path in paths if "${" not in path and self.id(path) is None}

    def digest(self, name: str, path: str) -> str | None:
        """The digest of a file as a record has it by this name, also where git-lfs has not fetched it; None where nobody knows it. Raises BuildError and OSError."""
        place = self.place(path)
        id_ = self.tree.files.get(place)
        if id_ is None:
            known = self.locked.get(name, set())
            return next(iter(known)) if len(known) == 1 else None
        if self.is_now:
            try:
                with Path(path).open("rb") as file:
                    return pointed_to(file.read(LONGEST_POINTER)) or file_digest(path)
            except FileNotFoundError:
                if id_ == EDITED:
                    return None
        return _digest_in_git(self.tree.holder(place), id_)


def snapshot(tree: Tree, blocks: Mapping[str, Block], *, is_now: bool) -> Snapshot:
    """The repo with these files and this lock."""
    locked: dict[str, set[str]] = {}
    for block in blocks.values():
        for kind in ("inputs", "targets"):
            for name, digest in block[kind].items():
                locked.setdefault(name, set()).add(digest)
    return Snapshot(tree=tree, is_now=is_now, blocks=blocks, locked=locked)


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


def catalogs_of(snapshot: Snapshot, now: Tree, paths: Iterable[str], beside: Iterable[str]) -> list[Loaded]:
    """The catalogs at these paths. `now`: the working tree, where files with the same id are read. Raises BuildError and OSError.

    `beside`: files that are there beside git, by their paths from the clone's root.
    """
    outside = set(beside)
    with TemporaryDirectory(prefix="ollamake-") as top:
        files = Mirror(top, snapshot.tree, beside=outside, content=_reader(snapshot.tree, now, outside))
        return [_load(path, files, is_there=not {snapshot.place(path)}.isdisjoint({*snapshot.tree.files, *outside})) for path in paths]


def taken_for_there(catalog: Catalog | None, before: Snapshot, after: Snapshot) -> Iterable[str]:
    """Files of now that git has neither then nor now, and of which no lock says that they were not there then."""
    if catalog is None:
        return
    datasets = [dataset for dataset in catalog.datasets if f"validate:{dataset.name}" not in before.blocks]
    for path in chain(catalog.digests, *(dataset.files for dataset in datasets)):
        if before.id(path) is None and after.id(path) is None:
            yield before.place(path)


def refuse_closed(catalog: Catalog | None, before: Snapshot, after: Snapshot) -> None:
    """Raise BuildError where a pattern leads into a submodule that is of another commit and can't be looked into."""
    closed = {path: commit for tree in (before.tree, after.tree) for path, commit in tree.submodules.items() if path not in tree.opened}
    edited = [path for path in closed if before.tree.submodules.get(path) != after.tree.submodules.get(path)]
    for pattern in catalog.patterns if catalog and edited else ():
        for path in edited:
            if any(_may_lead_into(pattern, path, snapshot) for snapshot in (before, after)):
                msg = f"{pattern}: git has another commit of the submodule {path} since, and its files are not here"
                raise BuildError(msg, fix=f"`git submodule update --init {path}`")


def _may_lead_into(pattern: str, submodule: str, snapshot: Snapshot) -> bool:
    """May a file that the pattern means be in the submodule?"""
    parts = pattern.split("/")
    fixed = next((size for size, part in enumerate(parts) if MAGIC.intersection(part)), None)
    if fixed is None:
        return False  # a name: the commit of the submodule tells
    folder = snapshot.place("/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "."))
    return folder == "." or f"{folder}/".startswith(f"{submodule}/") or f"{submodule}/".startswith(f"{folder}/")


def _reader(tree: Tree, now: Tree, beside: Collection[str]) -> Callable[[str], bytes]:
    """What gives the content of a file: by git, of many files at once, where that of the working tree is another."""
    fetched: dict[str, bytes] = {}

    def content(place: str) -> bytes:
        id_, here = tree.files.get(place), tree.clone.root / place
        if (id_ == now.files.get(place) and here.is_file()) or (id_ is None and place in beside):
            return here.read_bytes()
        if id_ is None or id_ == EDITED:
            raise FileNotFoundError(2, os.strerror(2), place)
        if place not in fetched:
            holder = tree.holder(place)
            alike = {path: other for path, other in tree.files.items() if path.endswith(ENDINGS) and other not in {now.files.get(path), EDITED}}
            asked = {path: other for path, other in alike.items() if path not in fetched and tree.holder(path) == holder} | {place: id_}
            found = holder.contents(asked.values())
            fetched.update({path: found[other] for path, other in asked.items()})
        return fetched[place]

    return content


@cache
def _digest_in_git(clone: Clone, id_: str) -> str:
    content = clone.contents([id_])[id_]
    return pointed_to(content) or digest_bytes(content)


def _load(path: str, files: Mirror, *, is_there: bool) -> Loaded:
    if not is_there:
        return Loaded(catalog=None, steps=(), fault="")
    try:
        catalog = with_held_bases(load_catalog(Path(path), trainers=TrainerNames(), only_looks=True, files=files))
        return Loaded(catalog=catalog, steps=steps_in(catalog), fault="")
    except BuildError as error:
        return Loaded(catalog=None, steps=(), fault=str(error).partition("\n")[0])
