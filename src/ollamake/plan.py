"""What a run would do, before it does it. Pure: it is told how the steps look, and what the cheap ones will make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ollamake.catalog import Model
from ollamake.freshness import Reason, Record, Sight, reasons
from ollamake.graph import Step

YES, PERHAPS, UNKNOWN, FAILS, BLOCKED = "yes", "perhaps", "unknown", "fails", "blocked"
# What a step makes, and what the next one does unless that comes out the same.
MAKES = {"validate": "marker", "convert": "text", "train": "adapter", "fetch": "adapter", "package": "GGUF", "register": "model"}
DOES = {"convert": "converts", "train": "trains", "fetch": "fetches", "package": "packages", "register": "registers", "test": "tests"}
BEHIND = ("behind", "perhaps behind", "perhaps behind perhaps")  # kinds of reasons that another step of the same model tells
LISTS = ("files", "data")  # keys that list the files of datasets
CANT_TELL = ("input missing", "no server")  # kinds of reasons that say that something could not be looked at
REPEATS = ("target gone", "target changed", "input missing")  # kinds of reasons after which it is made again, if what is not here is as it was
SURE = ("validate", "convert")  # stages that make the same of the same


class Foreseen(Protocol):
    """What the plan asks. Raises OSError where a file can't be read."""

    def remembered(self, step: Step) -> Record | None:
        """The step's record."""

    def sight(self, step: Step, record: Record | None) -> Sight:
        """The step as it is now."""

    def brought(self, step: Step, now: Sight) -> bool:
        """Is there an adapter that has brought its own record with it, and was it made from what is seen here?"""

    def keys_before(self, step: Step) -> Mapping[str, Any]:
        """What the catalog said when the step last ran, as far as that is known."""

    def explained(self, step: Step, why: Iterable[Reason]) -> Iterable[Reason]:
        """The reasons, with all that can be said of them."""

    def refusal(self, step: Step, why: Collection[Reason], *, anew: bool, lacking: bool) -> str | None:
        """Why the step, which has these reasons to run, will be refused before it begins.

        `anew`: will or may a file that it reads be made anew before? `lacking`: is it known that no cache has what it would make?
        """

    def outcome(self, step: Step) -> Mapping[str, str] | str | None:
        """The digests of what the step will make, by path; a text where it will fail, and None where only doing it can tell."""

    def seconds(self, step: Step) -> float | None:
        """How long the step will take, as far as the past tells."""

    def shared(self, step: Step, coming: Mapping[str, str]) -> str | None:
        """Where a cache has what the training will make, if it has; None where nobody can tell, or there is no cache. `coming`: inputs that will be others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A step that is not known to be fresh."""

    step: Step
    runs: str  # YES; PERHAPS: by what a step before it makes; UNKNOWN: something is not here; FAILS; BLOCKED: by one that fails
    reasons: tuple[Reason, ...]
    seconds: float | None  # None: nothing in the past tells
    shared: str | None = None  # where a cache has what the training will make, if it has
    cached: bool = False  # it was asked, and has it: nothing is trained
    again: Mapping[str, str] = field(default_factory=dict)  # path -> digest that it had, and will have again if what is not here is as it was

    @property
    def trains(self) -> bool:
        """Will something be trained?"""
        return self.step.stage == "train" and self.runs == YES and not self.cached

    @property
    def may_train(self) -> bool:
        """Will something be trained, or perhaps?"""
        return self.step.stage == "train" and self.runs in {YES, PERHAPS, UNKNOWN} and not self.cached

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "step": self.step.id,
            "stage": self.step.stage,
            "name": self.step.name,
            "runs": self.runs,
            "reasons": [reason.as_json() for reason in self.reasons],
            "seconds": self.seconds,
            **({"cached": True} if self.cached else {}),
        }


def planned(steps: Iterable[Step], foreseen: Foreseen, lacking: Collection[str] = ()) -> tuple[Planned, ...]:
    """The steps that a run of these would do or may do, in their order, each behind those whose targets it reads. `lacking`: what no cache has."""
    found: dict[str, Planned] = {}
    makers: dict[str, Planned] = {}  # path -> what will or may make it anew
    coming: dict[str, str | None] = {}  # path -> digest that it will have; None: nobody knows yet
    for step in steps:
        plan = _plan(step, foreseen, makers, coming)
        if plan is None:
            continue
        found[step.id] = plan
        anew = any(path in makers for path in step.reads)
        refusal = foreseen.refusal(step, plan.reasons, anew=anew, lacking=plan.shared in lacking) if plan.runs == YES else None
        outcome = (refusal or foreseen.outcome(step)) if plan.runs == YES else None
        if isinstance(outcome, str):
            found[step.id] = plan = replace(plan, runs=FAILS, reasons=(*plan.reasons, Reason(kind="fails", what=outcome)))
        for path in (*step.writes, step.id):
            makers[path] = plan
            coming[path] = outcome.get(path) if isinstance(outcome, Mapping) else None
    return tuple(found.values())


def by_model(plans: Collection[Planned], models: Mapping[str, Model]) -> dict[str, list[Planned]]:
    """Those of each model that has any, with those of the datasets that it reads."""
    validated = {plan.step.name: plan for plan in plans if plan.step.stage == "validate"}
    found = {name: [validated[dataset.name] for dataset in model.data if dataset.name in validated] for name, model in models.items()}
    for plan in plans:
        if plan.step.stage != "validate":
            found[plan.step.name].append(plan)
    return {name: some for name, some in found.items() if some}


def _plan(step: Step, foreseen: Foreseen, makers: Mapping[str, Planned], coming: Mapping[str, str | None]) -> Planned | None:
    before = {path: makers[path] for path in (*step.reads, *step.after) if path in makers}
    for maker in before.values():
        if maker.runs in {FAILS, BLOCKED}:
            return Planned(step=step, runs=BLOCKED, reasons=(Reason(kind="blocked", what=maker.step.id),), seconds=None)
    record = foreseen.remembered(step)
    now = foreseen.sight(step, record)
    names = {**{path: name for name, path in step.named_reads.items()}, **step.named_after}
    unsure = {path: maker for path, maker in before.items() if coming[path] is None}
    inputs = dict(now.inputs)
    for path in before:
        inputs[names[path]] = coming[path]
    for path in unsure:  # taken for unchanged: whether it changes is the one question
        inputs[names[path]] = record.inputs.get(names[path]) if record else None
    expected = replace(now, inputs=inputs)
    found = reasons(record, expected, lambda: foreseen.keys_before(step))
    why = [reason for reason in found if not (reason.kind == "input missing" and reason.what in {names[path] for path in unsure})]
    if why and step.stage == "train" and foreseen.brought(step, expected):
        why = []
    likely = {names[path]: maker.again.get(path) for path, maker in unsure.items()}
    again = _again(step, record, why, likely)
    if why:
        shown = _told(foreseen.explained(step, why), {names[path]: maker for path, maker in before.items()})
        runs = UNKNOWN if all(reason.kind in CANT_TELL for reason in why) else YES
        will = {names[path]: digest for path in before if (digest := coming[path] or likely[names[path]]) is not None}
        shared = foreseen.shared(step, will) if step.stage == "train" and len(will) == len(before) else None
        return Planned(step=step, runs=runs, reasons=shown, seconds=foreseen.seconds(step), shared=shared, again=again)
    if unsure:
        told = tuple(_perhaps(step, maker) for maker in _each(unsure))
        return Planned(step=step, runs=PERHAPS, reasons=told, seconds=foreseen.seconds(step), again=again)
    return None


def _again(step: Step, record: Record | None, why: Iterable[Reason], likely: Mapping[str, str | None]) -> Mapping[str, str]:
    """What the step has made, and will make again as far as can be seen; `likely`: inputs of which only that much is known."""
    if record is None or step.stage not in SURE or not all(reason.kind in REPEATS for reason in why):
        return {}
    return record.targets if all(digest is not None and digest == record.inputs.get(name) for name, digest in likely.items()) else {}


def _told(shown: Iterable[Reason], before: Mapping[str, Planned]) -> tuple[Reason, ...]:
    """The reasons, where a file that will be made anew is told by the step that makes it."""
    told: list[Reason] = []
    for reason in shown:
        one = Reason(kind="behind", what=before[reason.what].step.id) if reason.what in before else reason
        if one not in told:
            told.append(one)
    return tuple(told)


def _each(unsure: Mapping[str, Planned]) -> list[Planned]:
    return list({maker.step.id: maker for maker in unsure.values()}.values())


def _perhaps(step: Step, maker: Planned) -> Reason:
    kind = "perhaps behind" if maker.runs == YES else "perhaps behind perhaps"
    return Reason(kind=kind, what=maker.step.id, old=f"its {MAKES[maker.step.stage]}", new=DOES[step.stage])
