"""The records that a model's tests ask about, and those that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ollamake.catalog import Model
from ollamake.catalog.tests import LOSS, Measure
from ollamake.digest import canonical_json, digest_bytes
from ollamake.errors import BuildError
from ollamake.graph import BUILD, TEXT_FORMATS
from ollamake.records.block import prints_of
from ollamake.records.formats import Chat, Record, Text
from ollamake.records.mixing import held_out, within
from ollamake.records.text import chat_of
from ollamake.stages.mixture import mixture
from ollamake.stages.reading import Example, examples_of
from ollamake.trainers.port import trainer

SEEN = 20  # records of a training text that are looked at


def examples_asked(measure: Measure) -> list[Example]:
    """Those of its dataset: of one that the model is trained on, what is held out; of many, as many as the limit. Raises BuildError where there is none."""
    examples = list(examples_of(measure.dataset, {}))
    if measure.metric != LOSS:
        examples = [example for example in examples if can_be_asked(example.record)]
    prints = prints_of([example.record for example in examples])
    places = np.arange(len(examples))
    if measure.only_held_out:
        places = np.flatnonzero(held_out(prints, measure.dataset.holdout))
    if measure.limit is not None:
        places = places[within(prints[places], measure.limit)]
    if not len(places):
        held = " that is held out" if measure.only_held_out else ""
        msg = f"{measure.mark}: test {measure.name!r}: dataset {measure.dataset.name!r} has no record{held} that can be asked"
        raise BuildError(
            msg, fix="write a larger `holdout`, or ask about another dataset" if held else "ask about a dataset of questions and answers"
        )
    return [examples[place] for place in places.tolist()]


def digest_of_asked(measure: Measure, examples: list[Example]) -> str:
    """What tells whether two scores are of the same thing."""
    said = [example.record.text if isinstance(example.record, Text) else example.record.turns() for example in examples]
    return digest_bytes(canonical_json([measure.metric, said]).encode())


def can_be_asked(record: Record) -> bool:
    """Has it a question, and an answer in words?"""
    return not isinstance(record, Text) and not (isinstance(record, Chat) and record.has_tools)


def text_format_of(model: Model) -> str | None:
    """What the model's trainer reads; None for an adapter that was there already."""
    return trainer(model.train.trainer).text_format if model.adapter is None else None


def training_chats(model: Model) -> Iterator[dict[str, Any]]:
    """The first records that the model was trained on, as chats: `messages`, `tools` or `text`, with its system prompt. None of an adapter that was there."""
    text_format = text_format_of(model)
    if text_format is None:
        return
    path = Path(BUILD, model.name, f"text.{TEXT_FORMATS[text_format]}")
    if text_format == "chat" and path.is_file():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in islice(lines, SEEN))
    else:
        yield from (chat_of(example.record, model.train.system) for example in islice(mixture(model, {}), SEEN))
