"""What a model's tests came to, as a frozen value; and what is new in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

FORMAT = 1
QUESTION, DATASET, KEEPS, EFFECT, TEMPLATE = KINDS = ("question", "dataset", "keeps", "effect", "template")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One test, and what it came to."""

    name: str
    kind: str  # one of KINDS: the last two are asked of each model, whatever its catalog says
    passed: bool
    question: str = ""  # of several, one that tells most: the first that was answered wrong
    answer: str = ""
    wanted: str = ""  # `contains "account settings"`
    score: float | None = None
    of: str | None = None  # digest of the records that the score is of
    why: str = ""  # what is wrong; of one that passed, what is worth saying
    fix: str | None = None
    warning: bool = False  # it passed, and `why` is to be seen all the same
    seconds: float = 0.0
    at: str | None = None  # where it stands: `models.yaml:14`
    of_base: str | None = None  # what the base has answered to the question, where it was asked

    @property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from other tests, of this report and of another: one that wants something else is another test."""
        return self.kind, self.name, self.wanted

    def as_json(self) -> dict[str, Any]:
        """As JSON values; what is not said is left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.score is not None and not isfinite(self.score):
            values["score"] = None  # JSON has no such numbers
        return {name: value for name, value in values.items() if name in _ALWAYS or (value is not None and value is not False and value != "")}


_ALWAYS = ("name", "kind", "passed", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All tests of a model that was made and tried, in their order."""

    model: str
    digest: str  # of the model in Ollama
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Did all of them pass?"""
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """Those that did not."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def seconds(self) -> float:
        """That they took."""
        return sum(result.seconds for result in self.results)

    def result(self, like: Result) -> Result | None:
        """What the same test came to in this report."""
        return next((result for result in self.results if result.identity == like.identity), None)

    def as_json(self) -> dict[str, Any]:
        """For a file, and for programs."""
        return {
            "format": FORMAT,
            "model": self.model,
            "digest": self.digest,
            "passed": self.passed,
            "results": [result.as_json() for result in self.results],
        }


def report_of(value: Any) -> Report | None:
    """The report that as_json has made this of; None where it is none, or one of another ollamake."""
    try:
        if value["format"] != FORMAT:
            return None
        results = tuple(_result(facts) for facts in value["results"])
        report = Report(model=value["model"], digest=value["digest"], results=results)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return report if isinstance(report.model, str) and isinstance(report.digest, str) else None


_TYPES: dict[str, type | tuple[type, ...]] = {"passed": bool, "warning": bool, "score": (int, float), "seconds": (int, float)}


def _result(facts: dict[str, Any]) -> Result:
    known = {name: facts[name] for name in Result.__dataclass_fields__ if facts.get(name) is not None}
    for name, value in known.items():
        if not isinstance(value, _TYPES.get(name, str)):
            msg = f"{name}: {value!r}"
            raise TypeError(msg)
    return Result(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A report against the one of the model before."""

    newly_failing: tuple[Result, ...] = field(default=())  # that passed before
    still_failing: tuple[Result, ...] = field(default=())
    first_failing: tuple[Result, ...] = field(default=())  # that were not asked before
    newly_passing: tuple[Result, ...] = field(default=())


def difference(now: Report, before: Report | None) -> Difference:
    """What is new in a report; where there is none before, nothing was asked before."""

    def those(results: Iterable[Result], *, passed_before: bool | None) -> tuple[Result, ...]:
        found = ((result, before.result(result) if before else None) for result in results)
        return tuple(result for result, other in found if (other.passed if other else None) is passed_before)

    return Difference(
        newly_failing=those(now.failures, passed_before=True),
        still_failing=those(now.failures, passed_before=False),
        first_failing=those(now.failures, passed_before=None),
        newly_passing=those((result for result in now.results if result.passed), passed_before=False),
    )
