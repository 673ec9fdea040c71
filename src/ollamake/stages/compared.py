"""Two versions of a model, asked the same: what each answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.tests import Keeps, Question
from ollamake.gate.answers import Ask, ask
from ollamake.ollama.client import OllamaServer
from ollamake.stages.asking import Answers, Told, limits
from ollamake.stages.examine import NEUTRAL, question_of, without_own_system
from ollamake.stages.tested_records import training_chats

TRAINED = 5  # prompts of the records that it was trained on, where there are no tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A question, and two answers."""

    question: str
    a: str
    b: str

    @property
    def is_same(self) -> bool:
        """Are they the same?"""
        return self.a == self.b

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"question": self.question, "a": self.a, "b": self.b, "same": self.is_same}


def compared(server: OllamaServer, model: Model, a: str, b: str, *, tell: Told | None = None) -> list[Compared]:
    """What the two models of these names answer, the likeliest each time: all of the first, then all of the second. Raises BuildError.

    `tell` hears how many questions are answered, and of how many.
    """
    asks = prompts_of(model)
    answers = Answers(server, tell)
    answers.wanted = 2 * len(asks)
    first, second = answers.get(a, asks), answers.get(b, asks)
    return [Compared(question=one.question, a=x.text, b=y.text) for one, x, y in zip(asks, first, second, strict=True)]


def prompts_of(model: Model) -> list[Ask]:
    """What the model's tests ask, each once; where they ask nothing, the first questions that it was trained on."""
    options = {"temperature": 0.0, **limits(model.serve.parameters)}
    chats: list[Sequence[Mapping[str, Any]]] = []
    for test in model.tests:
        if isinstance(test, Question):
            chats.append(test.messages)
        elif isinstance(test, Keeps):
            chats.extend([{"role": "user", "content": prompt}] for prompt in test.prompts)
    if not chats:
        trained = (without_own_system(question_of(chat), model.train.system) for chat in training_chats(model))
        chats = list(islice(filter(None, trained), TRAINED)) or [[{"role": "user", "content": prompt}] for prompt in NEUTRAL]
    return list(dict.fromkeys(ask(messages, **options) for messages in chats))
