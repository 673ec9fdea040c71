"""What a catalog says that nothing uses: entries, and a model's keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ollamake.catalog.layers import Layers
from ollamake.catalog.tests import tests_datasets
from ollamake.catalog.values import Base, Dataset, Model
from ollamake.errors import Fault, Mark


def unused(models: Iterable[Model], bases: Iterable[Base], datasets: Iterable[Dataset], libraries: set[str]) -> Iterator[Fault]:
    """Warnings of entries that nothing uses; of `libraries`, files that offer what others may use, none is expected to be."""
    used = {("base", model.base.name) for model in models}
    used |= {("dataset", dataset.name) for model in models for dataset in (*model.data, *tests_datasets(model))}
    for kind, entries in (("base", bases), ("dataset", datasets)):
        for entry in entries:
            if (kind, entry.name) not in used and entry.mark.path not in libraries:
                yield Fault(mark=entry.mark, text=f"warning: no model uses the {kind} {entry.name!r}")


def unused_types(layers: Mapping[str, Layers]) -> Iterator[Fault]:
    """Warnings of types for merged weights that a model's own entry says beside `weights: adapter`; defaults are for other models too."""
    found: dict[Mark, str] = {}  # models in the order of the catalog: all those of one matrix are said once
    for name, (own, *_) in layers.items():
        serve = own.value.get("serve", {})
        mark = own.mark(("serve", "weights_type"))
        if serve.get("weights") == "adapter" and mark is not None:
            found.setdefault(mark, name)
    for mark, name in found.items():
        text = f"warning: model {name!r}: serve.weights_type: an adapter is served in float32: the type is that of merged and split weights"
        yield Fault(mark=mark, text=text, fix="remove it, or write `weights: merged`")
