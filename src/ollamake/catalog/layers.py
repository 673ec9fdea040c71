"""What the places say together that have a say in a model: its own entry, its base, its file, and the files that include that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ollamake.catalog.values import Layer, Serve, Start, Train

Layers: TypeAlias = tuple[Layer, ...]  # the one with the last word first
OF_ITS_TRAINER = ("command", "env")  # and options: what is said for one trainer, and means nothing to another


def train_of(layers: Layers) -> Train:
    """The recipe, key by key."""
    settings = _merged("train", layers)
    own = [layer for place, layer in enumerate(layers) if place == 0 or _trainer(layers[place:]) == _trainer(layers)]
    for key in OF_ITS_TRAINER:  # a default for another trainer is none for this one
        said = [_part("train", layer)[key] for layer in own if key in _part("train", layer)]
        settings.pop(key, None)
        if said:
            settings[key] = said[0]
    settings["options"] = {key: value for layer in reversed(own) for key, value in _part("train", layer).get("options", {}).items()}
    gpus, pinned, start = settings.pop("resources", {}).get("gpu", 1), settings.pop("pin", None), settings.pop("start_from", "base")
    plain = {key: _plain(key, value) for key, value in settings.items()}
    return Train(**plain, start=_start(start), gpus=int(gpus), pins_versions=pinned == "versions")


def _trainer(layers: Layers) -> str:
    return str(_merged("train", layers).get("trainer", Train().trainer))


def _start(said: str | Mapping[str, Any]) -> Start | None:
    if isinstance(said, str):
        return None if said == "base" else Start() if said == "previous" else Start(model=said)
    return Start(always=said["previous"] == "always", limit=int(said.get("limit", Start().limit)))


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
    if key in {"command", "launch"}:
        return tuple(value)
    if key == "env":
        return tuple(value) if isinstance(value, list) else value
    if key == "options":
        return value
    if key in {"alpha", "learning_rate"}:
        return float(value)
    return int(value) if isinstance(value, float) else value
