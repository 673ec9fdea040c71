"""Where a model is trained, as its layers say it together; no part of its recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ollamake.catalog.caching import wrong_with_url
from ollamake.catalog.layers import Layers
from ollamake.catalog.places import Engine
from ollamake.catalog.values import Catalog

RESOURCES = ("CPU", "GPU", "memory")  # that Ray knows by itself


def engine_of(layers: Layers) -> Engine:
    """The engine, key by key; resources each for itself."""
    parts: list[Mapping[str, Any]] = [layer.value.get("engine", {}) for layer in reversed(layers)]
    said = {key: value for part in parts for key, value in part.items()}
    resources = {name: amount for part in parts for name, amount in part.get("resources", {}).items()}
    return Engine(**{**said, "resources": resources}) if said else _HERE


_HERE = Engine()  # one for all models that say nothing of it


def wrong_with_engine(engine: Engine) -> Iterator[tuple[str, str, str]]:
    """What is wrong with it: key of the model, text, what to do."""
    for name, amount in engine.resources.items():
        known = {one.lower(): one for one in RESOURCES}.get(name.lower(), name)
        if known != name:
            yield f"engine.resources.{name}", f"engine: no node has a resource {name!r}: Ray's names differ by their case", f"write {known!r}"
        elif name == "GPU" and amount > 1 and amount != int(amount):
            yield f"engine.resources.{name}", f"engine: GPU {amount:g}: more than one can't be shared", "write a whole number"
    for text, fix in () if engine.address is None else wrong_with_address(engine.address):
        yield "engine.address", f"engine.address: {text}", fix
    for text, fix in () if engine.checkpoints is None else wrong_with_url(engine.checkpoints):
        yield "engine.checkpoints", f"engine.checkpoints: {text}", fix


def wrong_with_address(address: str) -> Iterator[tuple[str, str]]:
    """Why no trainings are sent to this address, and what to do: Ray Client has no reports of a task that runs, and other urls are of Ray's dashboard."""
    if "://" in address:
        kind = (
            "Ray Client, which brings nothing back while a training runs" if address.startswith("ray://") else "no cluster's, but of a service on it"
        )
        fix = "write HOST:PORT of its head, such as 10.0.0.2:6379, and let this machine belong to it: `ray start --address=HOST:PORT --num-cpus=0`"
        yield f"{address.partition('://')[0]}:// is {kind}", fix


def with_engine(catalog: Catalog, kind: str | None) -> Catalog:
    """The catalog, its models trained by an engine of this kind; None: as it says."""
    if kind is None:
        return catalog
    return replace(catalog, models=tuple(replace(model, engine=replace(model.engine, kind=kind)) for model in catalog.models))
