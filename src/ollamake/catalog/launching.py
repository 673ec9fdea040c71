"""`train.launch`: the words by which a training is run elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ollamake.catalog.places import LOCAL
from ollamake.catalog.training import Wrong
from ollamake.catalog.values import Model, Train
from ollamake.spelling import closest

LAUNCH_PLACES = ("name", "gpus")  # what `{...}` may stand for in them
_PLACE = re.compile(r"(?<!\$)\{([a-z]+)\}")  # `${...}` is a shell's


def launched_by(model: Model) -> tuple[str, ...]:
    """The words for the training of this model; none where it runs on this machine."""
    values = dict(zip(LAUNCH_PLACES, (model.name, str(model.train.gpus)), strict=True))
    return tuple(_PLACE.sub(lambda place: values[place[1]], word) for word in model.train.launch)


def wrong_with_launch(train: Train, engine: str) -> Iterator[Wrong]:
    """Places that stand for nothing, and words before what an engine runs by itself."""
    if train.launch and engine != LOCAL:
        text = f"launch: engine {engine!r} starts the training itself, and no words before it"
        yield "train.launch", text, "write `launch: []` into the model's `train:`, or `engine: {kind: local}` into the model"
    for word in train.launch:
        for place in _PLACE.findall(word):
            if place not in LAUNCH_PLACES:
                meant = closest(place, LAUNCH_PLACES)
                known = " or ".join(f"{{{name}}}" for name in LAUNCH_PLACES)
                yield "train.launch", f"launch: {{{place}}} stands for nothing", f"write {known if meant is None else f'{{{meant}}}'}"
