"""What is asked of a finished model, and what it has to answer: the catalog's `tests` as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ollamake.catalog.expanded import told, written
from ollamake.errors import Mark

if TYPE_CHECKING:
    from ollamake.catalog.values import Dataset, Model

LOSS = "loss"
METRICS = ("exact", "contains", "token_f1", LOSS)
ALWAYS = ("the adapter has an effect", "training text and served template agree")  # names of the tests that every model has
BASE, PREVIOUS = "base", "previous"  # what a score may be held against
KEYS_OF = {  # the keys that say what is asked -> those that may stand beside them
    "ask": ("expect", "repeat"),
    "chat": ("expect", "repeat"),
    "dataset": ("metric", "min", "max", "no_worse_than", "limit"),
    "keeps": ("min",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What has to be true of an answer: all of it."""

    contains: tuple[str, ...] = ()
    not_contains: tuple[str, ...] = ()
    equals: str | None = None  # but for white space at both ends
    regex: str | None = None  # found anywhere in it
    json_schema: str | Mapping[str, Any] | None = None  # path, relative to the working directory; or the schema itself
    ignore_case: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """As JSON values, by the catalog's keys."""
        own = {
            "contains": list(self.contains),
            "not_contains": list(self.not_contains),
            "equals": self.equals,
            "regex": self.regex,
            "json_schema": self.json_schema,
            "ignore_case": self.ignore_case,
        }
        return {key: value for key, value in own.items() if value not in (None, [], False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A chat that ends with a question: `ask`, or `chat`."""

    name: str
    messages: tuple[Mapping[str, str], ...]  # {"role": "system" | "user" | "assistant", "content": text}
    expect: Expect
    repeat: int = 1  # times that it is asked; more than half have to be right
    mark: Mark

    @property
    def said(self) -> dict[str, Any]:
        """As JSON values, by the catalog's keys."""
        repeat = {"repeat": self.repeat} if self.repeat > 1 else {}
        return {"name": self.name, "chat": [dict(message) for message in self.messages], "expect": self.expect.said, **repeat}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A score over the records of a dataset."""

    name: str
    dataset: Dataset
    metric: str  # one of METRICS
    least: float | None = None  # of exact, contains and token_f1, between 0 and 1: more is better
    most: float | None = None  # of the loss: less is better
    no_worse_than: str | None = None  # BASE or PREVIOUS
    limit: int | None = None  # records at most
    only_held_out: bool = False  # are the records that are not held out left out? The model is trained on those
    mark: Mark

    @property
    def said(self) -> dict[str, Any]:
        """As JSON values, by the catalog's keys; with what decides how the dataset is read, and which of its records are asked."""
        own = {
            "min": self.least,
            "max": self.most,
            "no_worse_than": self.no_worse_than,
            "limit": self.limit,
            "format": self.dataset.format,
            "fields": dict(self.dataset.fields),
            "holdout": self.dataset.holdout if self.only_held_out else None,
        }
        files = [written(path) for path in self.dataset.files]
        more = {key: value for key, value in own.items() if value not in (None, {})}
        return {"name": self.name, "dataset": self.dataset.name, "files": files, "metric": self.metric, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeps:
    """Prompts that have to be answered as the base answers them."""

    name: str
    prompts: tuple[str, ...]
    least: float | None = None  # token F1 of each answer against the base's; None: it is the same
    mark: Mark

    @property
    def said(self) -> dict[str, Any]:
        """As JSON values, by the catalog's keys."""
        least = {} if self.least is None else {"min": self.least}
        return {"name": self.name, "keeps": list(self.prompts), **least}


Test: TypeAlias = Question | Measure | Keeps


def said_tests(model: Model) -> list[dict[str, Any]]:
    """The model's tests as JSON values, for what is kept: no value of the environment is in it."""
    found: list[dict[str, Any]] = told([test.said for test in model.tests])
    return found


def tests_files(model: Model) -> tuple[str, ...]:
    """The files that the model's tests read: those of their datasets, and JSON Schemas."""
    found: dict[str, None] = {}
    for test in model.tests:
        if isinstance(test, Measure):
            found.update(dict.fromkeys(test.dataset.files))
        elif isinstance(test, Question) and isinstance(test.expect.json_schema, str):
            found[test.expect.json_schema] = None
    return tuple(found)


def tests_datasets(model: Model) -> tuple[Dataset, ...]:
    """The datasets whose records the model's tests ask about, each once."""
    return tuple({test.dataset.name: test.dataset for test in model.tests if isinstance(test, Measure)}.values())
