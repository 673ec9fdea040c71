"""Names in a catalog of several files: each stands once, and what it means in each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from ollamake.catalog.matrix import BAD_NAME, NAME
from ollamake.catalog.sources import Source
from ollamake.catalog.values import MARKERS, PAGES, Base, Dataset, Model
from ollamake.errors import Fault

# Folders below build/ that are no model's, and what is in them.
FOLDERS = {MARKERS: "where the markers of datasets are", PAGES: "the site that `doit report` writes, for others to see"}


def taken(name: str) -> tuple[str, str] | None:
    """What is wrong with a model of this name, and what to do; None where nothing is."""
    return (f"model {name!r}: build/{name} is {FOLDERS[name]}", "give the model another name") if name in FOLDERS else None


T = TypeVar("T", bound=Base | Dataset | Model)


class Names(dict[str, T]):
    """Bases, datasets or models by their whole names, prefixes and all."""

    def __init__(self, kind: str, faults: list[Fault]) -> None:
        """`faults`: where those are added that there are."""
        super().__init__()
        self.kind = kind
        self.faults = faults
        self.sources: dict[str, list[Source]] = {}  # that they stand in

    def add(self, source: Source, name: str, entry: T) -> None:
        """Enter it under this name; the first one has it."""
        self.sources.setdefault(name, []).append(source)
        if name in self:
            text = f"{self.kind} {name!r} is there twice; the first time at {self[name].mark}"
            self.faults.append(Fault(mark=entry.mark, text=text, fix="give one of them another name, or its file a prefix"))
            return
        if not NAME.fullmatch(name):
            self.faults.append(Fault(mark=entry.mark, text=f"{self.kind} {name!r}: this can't be a name", fix=BAD_NAME))
        self[name] = entry if entry.name == name else replace(entry, name=name)


class Scope(Mapping[str, T]):
    """Entries by the names that one file has for them: what stands in it and in what it includes, then what stands in the catalogs that include it."""

    def __init__(self, names: Names[T], source: Source) -> None:
        self.names = names
        self.source = source

    def __getitem__(self, name: str) -> T:
        for source in self.source.around():
            if self._stands_in(source, source.prefix + name):
                return self.names[source.prefix + name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        known = ((source, name) for source in self.source.around() for name in self.names)
        found = (name.removeprefix(source.prefix) for source, name in known if name.startswith(source.prefix) and self._stands_in(source, name))
        return iter(dict.fromkeys(found))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _stands_in(self, source: Source, name: str) -> bool:
        """Is it an entry of this file, or of one that it includes? A sibling may have the same prefix, and is another file."""
        return any(source is above for one in self.names.sources.get(name, ()) for above in one.around())
