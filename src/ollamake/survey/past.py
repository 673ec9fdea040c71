"""What is known of a model's past: its trainings, its tests, and the versions that were used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ollamake.gate.report import Report, Result
from ollamake.gate.told import summary
from ollamake.graph import LATEST, Step
from ollamake.report.facts import Asked, Curve, Promotion, TestsOnHost
from ollamake.spelling import counted
from ollamake.stages.curves import Trained, curve_in, kept_curves
from ollamake.standing import Standing
from ollamake.state.receipts import Receipt
from ollamake.state.versions import Version, history, report_with
from ollamake.survey.told import when

NOW = "now"
GONE = "gone"  # a version that the server has no more, as `doit history` says it
PROMOTIONS = 50  # of a server


def curves(name: str, events: str, receipt: Receipt | None) -> Iterator[Curve]:
    """The trainings of a model whose course is known, that of the adapter which is there first. One that came from elsewhere has none."""
    kept = kept_curves(name)
    last = curve_in(Path(events))
    if last is not None and last.ended not in {one.ended for one in kept}:
        kept.insert(0, last)
    current = next((one for one in kept if _is_of(one, receipt)), None)
    for one in sorted(kept, key=lambda other: other is not current):
        yield Curve(
            label=NOW if one is current else when(one.ended),
            trained=one.ended or None,
            is_current=one is current,
            steps=one.steps,
            loss=one.loss,
            learning_rate=one.learning_rate,
            held_out_steps=one.held_out_steps,
            held_out_loss=one.held_out_loss,
        )


def _is_of(one: Trained, receipt: Receipt | None) -> bool:
    """Is it the training of the adapter that is there? Where its digest was not kept, by when it ended."""
    if receipt is None:
        return False
    if one.adapter is not None:
        return one.adapter in receipt.record.targets.values()
    return "cache" not in receipt.outcome and one.is_whole and one.ended[:15] == receipt.finished[:15]  # within ten minutes


def tests_on(test: Step, host: str, place: str, standing: Standing, made: str | None) -> Iterator[TestsOnHost]:
    """What the tests came to on one server: of the candidate that stands beside, where there is one, and of the version that is used."""
    versions = history(place, test.name)
    used = standing.digest
    if made is not None and made != used and standing.candidate is not None:
        report = report_with(place, test.name, made)
        if report is not None:
            yield _tests(f"{host} ({standing.candidate})", report, report_with(place, test.name, used))
    report = report_with(place, test.name, used)
    if report is not None:
        before = next((version.replaced for version in reversed(versions) if version.digest == used), None)
        yield _tests(host, report, report_with(place, test.name, before))


def _tests(host: str, report: Report, before: Report | None) -> TestsOnHost:
    results = tuple(_asked(result, before.result(result) if before else None) for result in report.results)
    return TestsOnHost(host=host, digest=report.digest, summary=summary(report), results=results)


def _asked(result: Result, before: Result | None) -> Asked:
    same = before is not None and before.question == result.question
    return Asked(
        name=result.name,
        kind=result.kind,
        passed=result.passed,
        at=result.at,
        wanted=result.wanted,
        why=result.why,
        score=result.score,
        score_before=before.score if before else None,
        question=result.question,
        answer=result.answer,
        answer_of_previous=before.answer if before is not None and same else None,
        answer_of_base=result.of_base,
        seconds=result.seconds,
    )


def promotions(place: str, host: str, name: str, tags: Mapping[str, str] | None) -> Iterator[Promotion]:
    """The versions of a model that were used on a server, the youngest first."""
    versions = history(place, name)
    for number in range(len(versions) - 1, max(-1, len(versions) - 1 - PROMOTIONS), -1):
        version = versions[number]
        there = () if tags is None else tuple(sorted((tag for tag, digest in tags.items() if digest == version.digest), key=_latest_first)) or (GONE,)
        yield Promotion(
            host=host,
            at=version.at,
            how=version.how,
            digest=version.digest,
            replaced=version.replaced,
            tests=version.tests,
            because=version.because,
            commit=version.commit,
            now=there,
            changed=tuple(_changed(version, _before(versions, number))),
        )


def _latest_first(tag: str) -> tuple[bool, str]:
    return tag != LATEST, tag


def _before(versions: Sequence[Version], number: int) -> Version | None:
    """The version that this one came in the place of, as far as it is known."""
    replaced = versions[number].replaced
    return next((version for version in reversed(versions[:number]) if version.digest == replaced), None)


def _changed(version: Version, before: Version | None) -> Iterator[str]:
    """What is another in the data."""
    now, then = _data(version), {} if before is None else _data(before)
    for name, facts in now.items():
        count = facts.get("records")
        text = f"{name}: {counted(count, 'record')}" if isinstance(count, int) else name
        other = then.get(name)
        if other is None:
            yield text if before is None else f"{text}, not read before"
        elif other.get("digest") != facts.get("digest"):
            yield f"{text}, {_difference(count, other.get('records'))}"
    yield from (f"{name}: no longer read" for name in then if name not in now)


def _difference(count: Any, before: Any) -> str:
    if not isinstance(count, int) or not isinstance(before, int) or count == before:
        return "as many as before, and not the same"
    return f"{count - before} more" if count > before else f"{before - count} fewer"


def _data(version: Version) -> dict[str, Mapping[str, Any]]:
    data = version.provenance.get("data")
    return {str(one["name"]): one for one in data if isinstance(one, dict) and "name" in one} if isinstance(data, list) else {}
