"""The records that a model is trained on: of each of its datasets what its portion says, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ollamake.catalog import Model, Portion
from ollamake.digest import canonical_json
from ollamake.errors import Mark
from ollamake.records.block import prints_of
from ollamake.records.formats import Record, Text
from ollamake.records.mixing import held_out, shuffled, times, within
from ollamake.records.rules import severities
from ollamake.records.verdict import Breach
from ollamake.stages.reading import Example, examples_of


def mixture(model: Model, read: dict[str, str]) -> Iterator[Example]:
    """The records in the order in which they are written; into `read` goes the digest of what each file held. Raises OSError."""
    chosen = (example for portion in model.portions for example in portion_of(portion, read))
    if model.shuffle:
        examples = list(chosen)
        chosen = (examples[place] for place in shuffled(_prints(examples), model.train.seed))
    return chosen


def held(model: Model) -> Iterator[Example]:
    """The records of the model's datasets that are held out. Raises OSError."""
    for dataset in model.data:
        if dataset.holdout:
            examples = list(examples_of(dataset, {}))
            places = np.flatnonzero(held_out(_prints(examples), dataset.holdout))  # of all at once: of each alone it takes longer than all else
            yield from (examples[place] for place in places.tolist())


def leaks(model: Model) -> list[Breach]:
    """The records that the model is trained on though another of its datasets holds them out. Raises OSError."""
    if len(model.data) < 2:
        return []
    there: dict[str, Mark] = {}
    for example in held(model):
        there.setdefault(_said(example.record), example.mark)
    if not there:
        return []
    found = []
    for portion in model.portions:
        severity = severities(portion.dataset.rules)["leaks"]
        for example in portion_of(portion, {}):
            first = there.get(_said(example.record))
            if first is not None:
                text, fix = f"the same record as {first}, which is held out", "delete one of the two"
                if first == example.mark:
                    text, fix = (
                        "another dataset has this file too, and holds this record out",
                        "give both the same `holdout`, or the file to one of them",
                    )
                found.append(Breach(mark=example.mark, rule="leaks", severity=severity, text=text, fix=fix))
    return found


def portion_of(portion: Portion, read: dict[str, str]) -> Iterator[Example]:
    """The records of it that are trained on; into `read` goes the digest of what each file held. Raises OSError."""
    dataset = portion.dataset
    if not portion.mixing:
        yield from examples_of(dataset, read)
        return
    examples = list(examples_of(dataset, read))
    prints = _prints(examples)
    places = np.flatnonzero(~held_out(prints, dataset.holdout))
    if portion.limit is not None:
        places = places[within(prints[places], portion.limit)]
    for place, count in zip(places.tolist(), times(prints[places], portion.weight).tolist(), strict=True):
        for _ in range(count):
            yield examples[place]


def _prints(examples: Iterable[Example]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return prints_of([example.record for example in examples])


def _said(record: Record) -> str:
    """What a record says, whatever format says it."""
    return record.text if isinstance(record, Text) else canonical_json(record.turns())
