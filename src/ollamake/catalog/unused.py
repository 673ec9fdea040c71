"""Entries of a catalog that nothing uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollamake.catalog.tests import tests_datasets
from ollamake.catalog.values import Base, Dataset, Model
from ollamake.errors import Fault


def unused(models: Iterable[Model], bases: Iterable[Base], datasets: Iterable[Dataset], libraries: set[str]) -> Iterator[Fault]:
    """Warnings of entries that nothing uses; of `libraries`, files that offer what others may use, none is expected to be."""
    used = {("base", model.base.name) for model in models}
    used |= {("dataset", dataset.name) for model in models for dataset in (*model.data, *tests_datasets(model))}
    for kind, entries in (("base", bases), ("dataset", datasets)):
        for entry in entries:
            if (kind, entry.name) not in used and entry.mark.path not in libraries:
                yield Fault(mark=entry.mark, text=f"warning: no model uses the {kind} {entry.name!r}")
