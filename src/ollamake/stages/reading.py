"""The records of a dataset, one after the other, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.catalog import Dataset
from ollamake.catalog.json_schemas import schema_in
from ollamake.errors import BuildError, Mark
from ollamake.records.block import read_block
from ollamake.records.formats import FORMATS, MESSAGE_KEYS, Layout, Record, layout_of_record
from ollamake.spelling import nearest
from ollamake.stages.sources import Source

FIRST = 100  # lines in which the first record is looked for


@dataclass(frozen=True, slots=True)
class Example:
    """A record, and where it is from."""

    record: Record
    dataset: Dataset
    path: str

    @property
    def mark(self) -> Mark:
        """Its file and line."""
        return Mark(self.path, self.record.line)


def examples_of(dataset: Dataset, read: dict[str, str]) -> Iterator[Example]:
    """The records in their order; into `read` goes the digest of what each file held. Raises BuildError and OSError."""
    layout = layout_of(dataset)
    for path in dataset.files:
        source, before = Source(path), 0
        for piece in source.pieces():
            first = range(before + 1, before + piece.lines.removesuffix(b"\n").count(b"\n") + 2)
            records, lines = read_block(piece.lines, layout, numbers=piece.numbers or first)
            before += lines
            for record in records:
                yield Example(record, dataset, path)
        read[path] = source.digest


def layout_of(dataset: Dataset) -> Layout:
    """The format that the catalog says, else that of the first record, with the dataset's own names of keys. Raises BuildError and OSError."""
    layout = Layout(FORMATS[dataset.format], dataset.fields) if dataset.format else _layout_of_first(dataset)
    found = layout.format
    known = (*found.keys, *MESSAGE_KEYS.get(found.name, ()))
    for key, _ in dataset.fields:
        if key not in known:
            msg = f"{dataset.mark}: dataset {dataset.name!r}: fields: a record of format {found.name} has no key {key!r}"
            raise BuildError(msg, fix=nearest(key, known))
    names = [*layout.known, *map(layout.named, MESSAGE_KEYS.get(found.name, ()))]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"{dataset.mark}: dataset {dataset.name!r}: fields: two keys are called {twice!r}"
        raise BuildError(msg, fix="give each a name of its own")
    return layout


def _layout_of_first(dataset: Dataset) -> Layout:
    for path in dataset.files:
        piece = next(Source(path).pieces(), None)
        for line in piece.lines.split(b"\n", FIRST)[:FIRST] if piece else ():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            found = layout_of_record(value, dict(dataset.fields)) if isinstance(value, dict) else None
            if found is not None:
                return found
    return Layout(FORMATS["alpaca"], dataset.fields)


def read_schema(dataset: Dataset) -> Any:
    """The dataset's own JSON Schema. Raises BuildError where the file holds none."""
    return None if dataset.schema is None else json_schema(dataset.schema, f"take `schema` out of the dataset ({dataset.mark})")


def json_schema(path: str, otherwise: str) -> Any:
    """The JSON Schema in this file. Raises BuildError where it holds none, with what to do `otherwise` than to mend it; OSError where it can't be read."""
    try:
        return schema_in(Path(path).read_bytes())
    except ValueError as error:
        msg = f"{path}: {error}"
        raise BuildError(msg, fix=f"mend it, or {otherwise}") from error
