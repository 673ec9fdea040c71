"""Tests that ask what the model is trained on, word by word: the right answer says nothing then but that it was learnt by heart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.tests import Measure, Question
from ollamake.digest import canonical_json
from ollamake.errors import Mark
from ollamake.records.formats import Record, Text
from ollamake.records.rules import OFF, WARNING
from ollamake.records.verdict import Breach
from ollamake.stages.mixture import portion_of
from ollamake.stages.reading import examples_of


def asked_leaks(model: Model) -> list[Breach]:
    """The records that the model is trained on and a test asks about; what a dataset's rule `leaks` says, else warnings. Raises OSError."""
    asked = _asked(model)
    found: dict[Mark, Breach] = {}  # a record may be read several times
    for portion in model.portions if asked else ():
        severity = portion.dataset.rules.get("leaks", WARNING)
        if severity == OFF:
            continue
        for example in portion_of(portion, {}):
            test = next((asked[key] for key in _questions(example.record) if key in asked), None)
            if test is not None and example.mark not in found:
                name, mark = test
                text = f"model {model.name!r} is trained on what test {name!r} ({mark}) asks, word by word"
                fix = "ask in other words, or of what it is not trained on"
                found[example.mark] = Breach(mark=example.mark, rule="leaks", severity=severity, text=text, fix=fix)
    return list(found.values())


def _asked(model: Model) -> dict[str, tuple[str, Mark]]:
    """What is asked -> the test that does so first. What a dataset holds out of the model's training is in it by another rule."""
    found: dict[str, tuple[str, Mark]] = {}
    for test in model.tests:
        if isinstance(test, Question):
            found.setdefault(_key(test.messages), (test.name, test.mark))
        elif isinstance(test, Measure) and not test.only_held_out:
            for example in examples_of(test.dataset, {}):
                turns = [] if isinstance(example.record, Text) else example.record.turns()
                if turns:
                    found.setdefault(_key(turns[:-1]), (test.name, test.mark))
    return found


def _questions(record: Record) -> Iterator[str]:
    """What each answer of a record answers: all before it, and the turn before it alone."""
    turns = [] if isinstance(record, Text) else record.turns()
    for place, turn in enumerate(turns):
        if turn["role"] == "assistant" and place:
            yield _key(turns[:place])
            yield _key(turns[place - 1 : place])


def _key(messages: Sequence[Mapping[str, Any]]) -> str:
    """The messages but for system prompts, and for white space at both ends."""
    return canonical_json([[message["role"], (message.get("content") or "").strip()] for message in messages if message["role"] != "system"])
