"""How a model stands: the stage that it has come to, its adapter, and what of it each server has. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.drift import Changed, changed_bases
from ollamake.foresight import Foresight
from ollamake.freshness import Record
from ollamake.gate.report import Report
from ollamake.gate.told import summary
from ollamake.graph import CANDIDATE, LATEST, Step
from ollamake.moments import moment, seconds_of
from ollamake.plan import Planned
from ollamake.spelling import counted
from ollamake.state.receipts import Receipt
from ollamake.state.versions import report_with, short

FRESH = "fresh"
# Where a model is, as a server has it.
THERE, ROLLED_BACK, MISSING, REPLACED, NEVER, NO_ANSWER = "latest", "rolled back", "missing", "replaced by hand", "not made yet", "no answer"
STRANGE = "not known here"  # somebody else made it, or this repo before .ollamake/ was deleted
FAILED, WAITS, LEFT = "candidate failed its tests", "candidate waits for its tests", "candidate is left: it was rolled back from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A model, and one server."""

    model: str
    stage: str  # the first that is stale; FRESH
    adapter: str | None  # when it was trained: ISO 8601, in UTC
    digest: str | None  # of the version that has the name there, else of the one that was made last
    host: str
    is_there: str  # one of the words above
    candidate: str | None  # FAILED or WAITS, where there is one beside
    tests: str  # of the candidate, where there is one; `5 tests passed`
    drift: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "drift": list(self.drift)}


def standings(names: Iterable[str], foresight: Foresight, steps: Sequence[Step], plans: Sequence[Planned]) -> list[Standing]:
    """Of each of these models, one for each server, in their order. `plans`: what a run of them would do."""
    own: dict[str, list[Step]] = {}
    for step in steps:
        if step.stage != "validate":
            own.setdefault(step.name, []).append(step)
    stale = {plan.step.id: plan for plan in plans}
    changed = {name: found for found in changed_bases(foresight.sights, steps) for name in found.models}
    return [
        _standing(test, own[name], foresight, stale, changed.get(name)) for name in names if name in own for test in own[name] if test.stage == "test"
    ]


def _standing(test: Step, own: Sequence[Step], foresight: Foresight, stale: Mapping[str, Planned], base: Changed | None) -> Standing:
    sights, model = foresight.sights, test.subject
    assert isinstance(model, Model)
    here = [step for step in own if step.host in {None, test.host}]
    coming = [*(f"validate:{dataset.name}" for dataset in model.data), *(step.id for step in here)]
    first = next((stale[id_] for id_ in coming if id_ in stale), None)
    register = next(step for step in here if step.stage == "register")
    known, record, made = sights.known(test), sights.remembered(test), _target(sights.remembered(register))
    wanted = _target(record)
    there = None if known is None else known.get(f"{test.name}:{LATEST}")
    is_there = _is_there(record, wanted, there, is_known=known is not None)
    candidate, report = None, None
    if known is not None and made is not None and made not in {wanted, there} and known.get(f"{test.name}:{CANDIDATE}") == made:
        report = report_with(sights.host(test).file_name, test.name, made)
        candidate = FAILED if report is not None and not report.passed else WAITS if any(step.id in stale for step in here) else LEFT
    return Standing(
        model=test.name,
        stage=FRESH if first is None else first.step.stage,
        adapter=_adapter(here, foresight),
        digest=there or wanted,
        host=sights.host(test).name,
        is_there=is_there,
        candidate=candidate,
        tests=_tests(candidate, report, record, foresight.receipt(test)),
        drift=() if base is None else (_of_base(base),),
    )


def _of_base(changed: Changed) -> str:
    then = ", ".join(map(short, changed.then))
    return f"base {changed.base.name} is another one than it came from ({then} then, {short(changed.now)} now)"


def _target(record: Record | None) -> str | None:
    return next(iter(record.targets.values()), None) if record else None


def _is_there(record: Record | None, wanted: str | None, there: str | None, *, is_known: bool) -> str:
    if not is_known:
        return NO_ANSWER
    if there is None:
        return MISSING if wanted else NEVER
    if there != wanted:
        return REPLACED if wanted else STRANGE
    return ROLLED_BACK if record and record.accepted is not None else THERE


def _adapter(here: Sequence[Step], foresight: Foresight) -> str | None:
    train = next((step for step in here if step.stage == "train"), None)
    receipt = foresight.receipt(train) if train else None
    if receipt is not None:
        return receipt.finished
    package = next(step for step in here if step.stage == "package")
    with suppress(OSError):
        return moment(Path(package.reads[0]).stat().st_mtime)
    return None


def _tests(candidate: str | None, report: Report | None, record: Record | None, receipt: Receipt | None) -> str:
    if candidate is not None:
        return summary(report) if report else "never"
    if record is None or receipt is None:
        return "never"
    counts = receipt.outcome.get("tests") or {}
    if "passed" not in counts:
        return "not known"
    count = counted(counts["passed"] + counts.get("failed", 0), "test")
    return f"{counts['failed']} of {count} failed" if counts.get("failed") else f"{count} passed"


def age(then: str | None, now: float) -> str:
    """How long ago this was, for people: `3 days`."""
    if then is None:
        return "-"
    try:
        seconds = max(0.0, now - seconds_of(then))
    except ValueError:
        return "-"
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return counted(int(seconds // size), word)
    return "just now"
