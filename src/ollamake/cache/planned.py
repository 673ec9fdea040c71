"""What a cache has of the trainings that a plan names: those are taken, and take no time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ollamake.cache.key import is_shared
from ollamake.cache.shared import SharedCache
from ollamake.catalog import Model
from ollamake.graph import Step
from ollamake.plan import Foreseen, Planned, planned


def planned_with(cache: SharedCache | None, steps: Sequence[Step], foreseen: Foreseen) -> tuple[Planned, ...]:
    """What a run of these steps would do or may do, with what the cache says of it. It is asked for nothing where nothing is trained."""
    plans = planned(steps, foreseen)
    wanted = {plan.shared for plan in plans if plan.trains and plan.shared is not None}
    if cache is None or not wanted:
        return plans
    there = cache.there(wanted)
    lacking = wanted - there if cache.reads else set()
    if any(plan.shared in lacking and all(reason.kind == "target changed" for reason in plan.reasons) for plan in plans):
        plans = planned(steps, foreseen, lacking)  # an adapter may be a pointer of git-lfs, which is trained by nobody
    return tuple(replace(plan, cached=True, seconds=0.0) if plan.trains and plan.shared in there else plan for plan in plans)


def may_have(cache: SharedCache | None, plans: Iterable[Planned], *, asked: bool) -> bool:
    """May the cache have what would be trained: was it not asked, did it not answer, or does nobody know yet what to ask it for?"""
    if cache is None or not cache.facts.read:
        return False
    trained = ((plan, plan.step.subject) for plan in plans if plan.trains)
    return any(isinstance(model, Model) and is_shared(model) and not (asked and cache.reads and plan.shared) for plan, model in trained)
