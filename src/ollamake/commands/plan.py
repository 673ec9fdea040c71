"""`doit plan [SELECTOR...]`: what a run would do, why, and how long it would take. Does nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ollamake.cache.planned import may_have, planned_with
from ollamake.catalog import Model
from ollamake.catalog.places import LOCAL
from ollamake.commands.look import AS_JSON, Look, in_a_run, models_of, needed_by
from ollamake.commands.markdown import AS_MARKDOWN, comment_on_plan, refuse_both
from ollamake.commands.select import EXCLUDE, selected
from ollamake.duration import duration
from ollamake.foresight import Foresight
from ollamake.plan import BLOCKED, FAILS, PERHAPS, UNKNOWN, YES, Planned
from ollamake.spelling import counted

STALE = 4  # exit code; 0 to 3 are doit's
NO_CACHE = {
    "name": "no_cache",
    "long": "no-cache",
    "type": bool,
    "default": False,
    "help": "do not ask the cache: what it has counts as a training",
}
WHOM = {False: "it", True: "them"}
SIGNS = {YES: ".", PERHAPS: "?", UNKNOWN: "?", FAILS: "!", BLOCKED: "-"}


class PlanCommand(Look):
    """Say what a run would do."""

    name = "plan"
    doc_purpose = "say what a run would do, why, and how long it would take"
    doc_usage = "[SELECTOR...]"
    doc_description = (
        "Names the steps that a run would do, and marks with `?` those that depend on what a step before them comes to. "
        "Nothing is written, and neither data, weights nor a server have to be there. A cache is asked for the adapters that would be trained. "
        f"Exit code: 0 where everything is fresh, {STALE} where something would run."
    )
    cmd_options = (AS_JSON, AS_MARKDOWN, EXCLUDE, NO_CACHE)

    def _execute(self, *, json: bool, markdown: bool, exclude: Sequence[str], no_cache: bool, pos_args: Sequence[str]) -> int:
        refuse_both(json=json, markdown=markdown)
        plans: list[Planned] = []
        models: dict[str, Model] = {}
        may_be_cached = False
        wanted = selected(pos_args, exclude) if pos_args or exclude else None
        for run, steps in self.runs():
            chosen = in_a_run(self.task_list, self.sel_tasks, steps) if wanted is None else needed_by(wanted, steps)
            found = planned_with(None if no_cache else run.cache, chosen, Foresight(run.sights, steps))
            plans.extend(found)
            may_be_cached |= may_have(run.cache, found, asked=not no_cache)
            models |= models_of(chosen)
        if markdown:
            self.outstream.write(comment_on_plan(plans, models, may_be_cached=may_be_cached))
            return STALE if plans else 0
        self.outstream.write(as_json(plans, may_be_cached=may_be_cached) if json else as_text(plans, may_be_cached=may_be_cached))
        return STALE if plans else 0


def total(plans: Iterable[Planned], *kinds: str) -> float:
    """Seconds that these would take, as far as they are known."""
    return sum((plan.seconds or 0.0 for plan in plans if plan.runs in kinds), 0.0)


def as_json(plans: Sequence[Planned], *, may_be_cached: bool = False) -> str:
    """The plan for programs."""
    facts: dict[str, Any] = {
        "fresh": not plans,
        "steps": [plan.as_json() for plan in plans],
        **counts_of(plans),
        "may_be_cached": may_be_cached,
    }
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def counts_of(plans: Sequence[Planned]) -> dict[str, Any]:
    """How long the steps of a plan take, and how many trainings are among them."""
    unsure = [plan for plan in plans if plan.runs in {PERHAPS, UNKNOWN}]
    return {
        "seconds": round(total(plans, YES), 1),
        "seconds_at_most": round(total(plans, YES, PERHAPS, UNKNOWN), 1),
        "trainings": sum(plan.trains for plan in plans),
        "trainings_at_most": sum(plan.may_train for plan in plans),
        "cached": sum(plan.cached for plan in plans),
        "complete": all(plan.seconds is not None for plan in plans if plan.runs == YES or plan in unsure),
    }


def as_text(plans: Sequence[Planned], *, may_be_cached: bool = False) -> str:
    """The plan for people. `may_be_cached`: may a cache have what would be trained?"""
    if not plans:
        return "nothing to do: everything is fresh\n"
    names = max(len(plan.step.id) for plan in plans)
    times = [_time(plan) for plan in plans]
    width = max(map(len, times))
    lines = [
        f"{SIGNS[plan.runs]}  {plan.step.id:<{names}}  {time:>{width}}  {'; '.join(reason.text for reason in plan.reasons)}"
        for plan, time in zip(plans, times, strict=True)
    ]
    return "\n".join([*lines, _summary(plans, may_be_cached=may_be_cached)]) + "\n"


def _time(plan: Planned) -> str:
    if plan.runs == BLOCKED:
        return "-"
    if plan.cached:
        return "cache"
    return "?" if plan.seconds is None else duration(plan.seconds)


def _summary(plans: Sequence[Planned], *, may_be_cached: bool) -> str:
    sure = [plan for plan in plans if plan.runs in {YES, FAILS}]
    unsure = [plan for plan in plans if plan.runs in {PERHAPS, UNKNOWN}]
    trainings, cached = sum(plan.trains for plan in sure), sum(plan.cached for plan in sure)
    text = f"{counted(len(sure), 'step')} will run"
    if trainings:
        text += f", {counted(trainings, 'training')} among them{f' unless the cache has {WHOM[trainings > 1]}' if may_be_cached else ''}"
    if cached:
        text += f", {counted(cached, 'adapter')} from the cache"
    if unsure:
        text += f", and {len(unsure)} more may (?)"
    least, most = total(plans, YES), total(plans, YES, PERHAPS, UNKNOWN)
    unknown = sum(plan.seconds is None for plan in (*sure, *unsure))
    if unknown == len(sure) + len(unsure) - cached:
        return f"{text}; how long {'it takes' if len(sure) + len(unsure) == 1 else 'they take'}, the past does not tell"
    text += f": about {duration(least)}" if most - least < 1 else f": about {duration(least)}, at most {duration(most)}"
    if sum(plan.may_train and isinstance(plan.step.subject, Model) and plan.step.subject.engine.kind != LOCAL for plan in plans) > 1:
        text += " one after the other; the cluster takes several at once"
    return f"{text}, and {counted(unknown, 'step')} of unknown length" if unknown else text
