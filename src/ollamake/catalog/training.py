"""What is wrong with how models are trained, as far as the catalog alone can say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from ollamake.catalog.adapters import is_lora_file
from ollamake.catalog.advice import Advice
from ollamake.catalog.names import Names, Scope
from ollamake.catalog.values import COMMAND_PLACES, Model, Portion, Train
from ollamake.spelling import closest

Wrong: TypeAlias = tuple[str, str, str]  # key of the model ("train.trainer"), what is wrong, what to do


def wrong_with_trainer(train: Train, trainers: Collection[str], advice: Advice) -> Iterator[Wrong]:
    """Who trains, and the command of trainer `command`."""
    if train.trainer not in trainers:
        fix = f"{advice.name('trainer', train.trainer, trainers)}, or install a package that provides {train.trainer!r}"
        yield "train.trainer", f"unknown trainer {train.trainer!r}", fix
    elif (train.trainer == "command") != bool(train.command):
        text = "trainer 'command' without a command" if train.trainer == "command" else f"a command for trainer {train.trainer!r}"
        yield "train", text, "write `trainer: command` and `command: [PROGRAM, ARGUMENT, ...]`"
    for word in train.command:
        for place in re.findall(r"\{([a-z]+)\}", word):
            meant = None if place in COMMAND_PLACES else closest(place, COMMAND_PLACES)
            if meant is not None:
                yield "train", f"command: {{{place}}} stands for nothing", f"write {{{meant}}}"


def wrong_with_holdout(train: Train, portions: Iterable[Portion]) -> Iterator[Wrong]:
    """What is decided by records that are held out, where none is."""
    if train.is_held_to_the_holdout and not any(portion.dataset.holdout for portion in portions):
        key = "keep" if train.keep == "best" else "patience"
        yield (
            f"train.{key}",
            f"{key} is decided by records that are held out, and no dataset holds any out",
            "write `holdout: 5%` into a dataset of the model",
        )


def with_starts(models: Names[Model], advice: Advice, fault: Callable[[str, str, str, str], None]) -> dict[str, Model]:
    """The models, those that begin with another's adapter by its whole name. `fault` is told of a model: key, what is wrong, what to do."""
    found = dict(models)
    for name, model in models.items():
        said = model.train.start.model if model.train.start else None
        if said is None or model.adapter is not None:
            continue
        known = Scope(models, models.sources[name][0])
        other = known.get(said)
        if other is None:
            fault(name, "train.start_from", f"unknown model {said!r}", advice.name("model", said, (*known, "base", "previous")))
        elif other is model:
            fault(name, "train.start_from", "it starts from itself", "write `start_from: previous`, its own adapter of before, or `base`")
        elif other.base.name != model.base.name:
            text = f"{said!r} is on base {other.base.name!r}, and this one on {model.base.name!r}: an adapter fits its own base alone"
            fault(name, "train.start_from", text, "start from a model on the same base, or from `base`")
        elif other.adapter is not None and is_lora_file(other.adapter):
            text = f"{said!r} is served from a GGUF LoRA, which no trainer goes on with"
            fault(name, "train.start_from", text, "start from a model that is trained here, or whose adapter is a PEFT folder, or from `base`")
        else:
            assert model.train.start is not None
            found[name] = replace(model, train=replace(model.train, start=replace(model.train.start, model=other.name)))
    for name in _in_circles(found):
        start = found[name].train.start
        if start is None or start.model == name:
            continue  # it was said
        fault(name, "train.start_from", "models that start from each other", "let one of them start from `base`")
    return found


def _in_circles(models: Mapping[str, Model]) -> Iterator[str]:
    """The models by which a walk from start to start comes back to them."""
    seen: set[str] = set()
    for name in models:
        walk: list[str] = []
        at: str | None = name
        while at is not None and at in models and at not in seen:
            seen.add(at)
            walk.append(at)
            start = models[at].train.start if models[at].adapter is None else None
            at = start.model if start else None
        if at in walk:
            yield from walk[walk.index(at) :]


def share_of(value: str | float) -> float:
    """The share that `5%` or 0.05 says."""
    return float(value.removesuffix("%")) / 100 if isinstance(value, str) else float(value)
