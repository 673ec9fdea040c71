"""A model on a server, asked what its catalog says and what is asked of every model -> report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.tests import BASE, LOSS, PREVIOUS, Keeps, Measure, Question
from ollamake.errors import BuildError
from ollamake.gate.answers import Answer, Ask, ask
from ollamake.gate.metrics import SCORES, mean
from ollamake.gate.report import DATASET, Report, Result
from ollamake.gate.verdicts import effect_result, keeps_result, measure_result, question_result, scored
from ollamake.ollama.client import OllamaServer
from ollamake.stages.agreement import template_result
from ollamake.stages.asking import Answers, Told, limits
from ollamake.stages.held_loss import losses
from ollamake.stages.reading import json_schema
from ollamake.stages.tested_records import digest_of_asked, examples_asked, training_chats

EFFECT_TOKENS = 32  # of an answer: enough to see whether it is another one
EFFECT_RECORDS = 5
NEUTRAL = ("Hello! Who are you?", "What can you do for me?", "Tell me a short story.", "What is the capital of France?", "Name three colours.")


def examine(
    model: Model,
    name: str,
    server: OllamaServer,
    base_name: str,
    *,
    before: Report | None = None,
    previous: str | None = None,
    tell: Told | None = None,
) -> Report:
    """Ask the model of this name, and the base under its own, all that there is to be asked. Raises BuildError where that can't be done.

    `before`: the report of the model that has the catalog's name now, and `previous` its name on the server, where there is one. `tell` hears how
    many questions are answered, and of how many.
    """
    examination = _Examination(model, Answers(server, tell), name=name, base=base_name, previous=previous, before=before)
    return Report(model=model.name, digest=server.digest(name), results=tuple(examination.results()))


@dataclass(frozen=True, slots=True)
class _Records:
    """What a test over a dataset asks."""

    asked: list[tuple[str, str]]  # question, wanted answer
    asks: list[Ask]
    of: str  # digest


class _Examination:
    def __init__(self, model: Model, answers: Answers, *, name: str, base: str, previous: str | None, before: Report | None) -> None:
        self.model, self.answers = model, answers
        self.name, self.base, self.previous, self.before = name, base, previous, before
        self.as_served = limits(model.serve.parameters)
        self.greedy: dict[str, float] = {"temperature": 0, **self.as_served}
        self.schemas = {test.name: _schema(test) for test in model.tests if isinstance(test, Question)}
        self.records = {test.name: self._records(test) for test in model.tests if isinstance(test, Measure) and test.metric != LOSS}

    def results(self) -> list[Result]:
        """Of all tests; the models are asked one after the other, for a server may have room for one alone."""
        effect = self._effect_asks()
        mine = [*effect[:1], *(one for test in self.model.tests for one in self._asks(test))]
        bases = [*effect[:1], *(one for test in self.model.tests for one in self._asks(test) if _needs_base(test))]
        befores = [one for test in self.model.tests if isinstance(test, Measure) and self._asks_previous(test) for one in self._asks(test)]
        self.answers.wanted = sum(len(set(asks)) for asks in (mine, bases, befores))
        self.answers.get(self.name, mine)
        template = template_result(self.model, self.name, self.answers.server)
        self.answers.get(self.base, bases)
        if self.previous is not None:
            self.answers.get(self.previous, befores)
        return [*map(self._result, self.model.tests), self._effect(effect), template]

    def _asks(self, test: Question | Measure | Keeps) -> list[Ask]:
        if isinstance(test, Question):
            if test.repeat > 1 and self.model.serve.parameters.get("temperature") != 0:
                return [ask(test.messages, seed=number, **self.as_served) for number in range(1, test.repeat + 1)]
            return [ask(test.messages, **self.greedy)] * test.repeat
        if isinstance(test, Keeps):
            return [self._greedy(prompt) for prompt in test.prompts]
        return self.records[test.name].asks if test.metric != LOSS else []

    def _greedy(self, prompt: str, **options: float) -> Ask:
        return ask([{"role": "user", "content": prompt}], **{**self.greedy, **options})

    def _result(self, test: Question | Measure | Keeps) -> Result:
        mine = self.answers.get(self.name, self._asks(test))
        if isinstance(test, Question):
            return question_result(test, self._asks(test)[0], mine, self.schemas[test.name])
        if isinstance(test, Keeps):
            return keeps_result(test, self._asks(test), mine, self.answers.get(self.base, self._asks(test)))
        if test.metric == LOSS:
            return self._loss(test)
        records = self.records[test.name]
        return measure_result(test, records.asked, mine, of=records.of, others=self._others(test, records))

    def _others(self, test: Measure, records: _Records) -> dict[str, float | None]:
        if test.no_worse_than == BASE:
            return {BASE: _score(test, records.asked, self.answers.get(self.base, records.asks))}
        if test.no_worse_than != PREVIOUS:
            return {}
        known = self._known(records.of)
        if known is None and self._asks_previous(test):
            assert self.previous is not None  # there is one to ask
            known = _score(test, records.asked, self.answers.get(self.previous, records.asks))
        return {PREVIOUS: known}

    def _known(self, of: str) -> float | None:
        """The score that the model before has had of the same records."""
        found = (result.score for result in (self.before.results if self.before else ()) if result.kind == DATASET and result.of == of)
        return next((score for score in found if score is not None), None)

    def _asks_previous(self, test: Measure) -> bool:
        """Is the model before asked? Its report has no score of these records."""
        if test.no_worse_than != PREVIOUS or test.metric == LOSS or self.previous is None:
            return False
        return self._known(self.records[test.name].of) is None

    def _records(self, test: Measure) -> _Records:
        examples = examples_asked(test)
        asked = []
        asks = []
        for example in examples:
            record = example.record
            *messages, answer = record.turns()  # type: ignore[union-attr]  # texts are left out
            asked.append((messages[-1]["content"], answer["content"]))
            asks.append(ask(messages, **self.greedy))
        return _Records(asked, asks, digest_of_asked(test, examples))

    def _loss(self, test: Measure) -> Result:
        began = time.monotonic()
        examples = examples_asked(test)
        of = digest_of_asked(test, examples)
        found, count = losses(self.model, test, examples)
        others = {BASE: found["base"], **({PREVIOUS: self._known(of)} if test.no_worse_than == PREVIOUS else {})}
        return scored(test, found["adapter"], of=of, others=others, count=count, seconds=round(time.monotonic() - began, 3))

    def _effect_asks(self) -> list[Ask]:
        chats: Iterable[list[Mapping[str, Any]]] = (question_of(chat) for chat in training_chats(self.model))
        found = [
            ask(without_own_system(messages, self.model.train.system), temperature=0, num_predict=EFFECT_TOKENS) for messages in chats if messages
        ]
        return list(islice(dict.fromkeys(found), EFFECT_RECORDS)) or [self._greedy(prompt, num_predict=EFFECT_TOKENS) for prompt in NEUTRAL]

    def _effect(self, asks: list[Ask]) -> Result:
        """By the first question alone, where the answers to that differ; else by more, and by those of the tests."""
        first = asks[:1]
        if self.answers.get(self.name, first)[0].text != self.answers.get(self.base, first)[0].text:
            asks = first
        else:
            more = [ask(test.messages, **{**self.greedy, "num_predict": EFFECT_TOKENS}) for test in self.model.tests if isinstance(test, Question)]
            asks = list(dict.fromkeys((*asks, *more)))
        mine, bases = self.answers.get(self.name, asks), self.answers.get(self.base, asks)
        return effect_result(asks, mine, bases, self.model.mark, given=self.model.adapter is not None)


def _needs_base(test: Question | Measure | Keeps) -> bool:
    return isinstance(test, Keeps) or (isinstance(test, Measure) and test.no_worse_than == BASE)


def _score(test: Measure, asked: list[tuple[str, str]], answers: list[Answer]) -> float:
    return mean(SCORES[test.metric](answer.text, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True))


def question_of(chat: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The messages before the first answer; none of a text, or where there are tools."""
    messages = chat.get("messages", [])
    first = next((place for place, message in enumerate(messages) if message["role"] == "assistant"), 0)
    return [] if chat.get("tools") or any(set(message) != {"role", "content"} for message in messages[:first]) else list(messages[:first])


def without_own_system(messages: list[Mapping[str, Any]], own: str | None) -> list[Mapping[str, Any]]:
    """The messages, without the system prompt `own`, which the server puts before them itself."""
    return messages[1:] if messages and messages[0]["role"] == "system" and messages[0]["content"] == own else messages


def _schema(test: Question) -> Any:
    """The JSON Schema of a test; None where it has none. Raises BuildError."""
    found = test.expect.json_schema
    if not isinstance(found, str):
        return found
    try:
        return json_schema(found, f"take `json_schema` out of the test ({test.mark})")
    except OSError as error:
        msg = f"{test.mark}: test {test.name!r}: {found}: {error.strerror}"
        raise BuildError(msg, fix="put the JSON Schema there, or mend `json_schema`") from error
