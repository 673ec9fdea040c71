"""What the places say together that have a say in a model: its own entry, its base, its file, and the files that include that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ollamake.catalog.values import Layer, Serve, Train

Layers: TypeAlias = tuple[Layer, ...]  # the one with the last word first


def train_of(layers: Layers) -> Train:
    """The recipe, key by key."""
    settings = _merged("train", layers)
    if settings.get("trainer") != "command" and "command" not in _part("train", layers[0]):
        settings.pop("command", None)  # of a default that this model does not train by
    gpus, pinned = settings.pop("resources", {}).get("gpu", 1), settings.pop("pin", None)
    return Train(**{key: _plain(key, value) for key, value in settings.items()}, gpus=int(gpus), pins_versions=pinned == "versions")


def serve_of(layers: Layers, train: Train) -> Serve:
    """How the model is served, key by key; parameters each for itself."""
    parameters = {key: value for layer in reversed(layers) for key, value in _part("serve", layer).get("parameters", {}).items()}
    return Serve(**{"system": train.system, **_merged("serve", layers), "parameters": parameters})


def _merged(part: str, layers: Layers) -> dict[str, Any]:
    return {key: value for layer in reversed(layers) for key, value in _part(part, layer).items()}


def _part(part: str, layer: Layer) -> Mapping[str, Any]:
    found: Mapping[str, Any] = layer.value.get(part, {})
    return found


def _plain(key: str, value: Any) -> Any:
    """The value of a key of `train` in the one form that it has: 3.0 epochs are 3, and a LoRA's layers have no order."""
    if key == "target_modules":
        return tuple(sorted(value))
    if key == "command":
        return tuple(value)
    if key in {"alpha", "learning_rate"}:
        return float(value)
    return int(value) if isinstance(value, float) else value
