"""A report for people: what fails that did not fail before comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollamake.gate.quoted import shown
from ollamake.gate.report import Report, Result, difference
from ollamake.spelling import counted


def told(report: Report, before: Report | None = None) -> str:
    """The report in lines; `before` is that of the model that has the name now."""
    return "\n".join(_lines(report, before))


def summary(report: Report) -> str:
    """`5 tests passed`, `2 of 5 tests failed`."""
    count = counted(len(report.results), "test")
    return f"{count} passed" if report.passed else f"{len(report.failures)} of {count} failed"


def _lines(report: Report, before: Report | None) -> Iterator[str]:
    new = difference(report, before)
    yield f"{report.model}: {summary(report)}"
    for head, results in (
        ("newly fails", new.newly_failing),
        ("fails" if before is None else "fails, and was not asked before", new.first_failing),
        ("still fails", new.still_failing),
    ):
        for result in results:
            yield from _failure(head, result)
    for result in new.newly_passing:
        yield f"  newly passes: {result.name}"
    yield from (f"  warning: {result.name}: {result.why}" for result in report.results if result.passed and result.warning)


def _failure(head: str, result: Result) -> Iterator[str]:
    at = f"{result.at}: " if result.at else ""
    yield f"  {at}{head}: {result.name}"
    if result.question and result.question != result.name:
        yield f"    asked: {shown(result.question)}"
    if result.answer:
        yield f"    answered: {shown(result.answer)}"
    yield from _below(result.why)
    if result.fix is not None:
        yield f"    fix: {result.fix}"


def _below(text: str) -> Iterable[str]:
    return (f"    {line}" for line in text.splitlines())
