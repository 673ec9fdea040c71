"""What the catalog says of a model, key by key, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.catalog.expanded import told, written
from ollamake.catalog.places import LOCAL
from ollamake.catalog.values import Catalog, Model
from ollamake.errors import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A value and its place."""

    key: str  # `train.rank`
    value: Any  # as JSON; no value of the environment
    mark: Mark | None  # None: the catalog does not say it, it is the default

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"key": self.key, "value": self.value, "at": str(self.mark) if self.mark else None}


def origins(catalog: Catalog, model: Model) -> Iterator[Origin]:
    """Every value that the model has, in the order of the stages that it decides."""
    for key, value in _values(model).items():
        mark = catalog.mark_of(model.name, key)
        if mark is None and key == "serve.system":
            mark = catalog.mark_of(model.name, "train.system")  # which it is unless it is said
        if value is not None or mark is not None:
            yield Origin(key=key, value=told(value), mark=mark)


def _values(model: Model) -> Mapping[str, Any]:
    train, engine, serve = model.train, model.engine, model.serve
    trained = {
        "data": [dataset.name for dataset in model.data],
        "train.trainer": train.trainer,
        "train.system": train.system,
        **{f"train.{key}": value for key, value in train.recipe.items()},
        "train.env": list(train.env) if isinstance(train.env, tuple) else train.env,
        "train.launch": list(train.launch) or None,
        "train.resources.gpu": train.gpus,
        "train.pin": "versions" if train.pins_versions else None,
        "engine.kind": engine.kind,
        "engine.address": engine.address,
        **{f"engine.resources.{name}": amount for name, amount in sorted(engine.resources.items())},
        "engine.runtime_env": dict(engine.runtime_env) or None,
        "engine.retries": None if engine.kind == LOCAL else engine.retries,
        "engine.checkpoints": engine.checkpoints,
    }
    return {
        "base": model.base.name,
        **({"adapter": model.hub.said if model.hub else written(model.adapter)} if model.adapter is not None else trained),
        "serve.system": serve.system,
        "serve.template": serve.template,
        **{f"serve.parameters.{key}": value for key, value in sorted(serve.parameters.items())},
        "serve.weights": serve.weights,
        "serve.weights_type": serve.weights_type,
        "tests": [test.name for test in model.tests] or None,
        "serve.imatrix": None if serve.imatrix is None else written(serve.imatrix),
    }
