"""`--markdown`: what a plan or an edit comes to, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from doit.exceptions import InvalidCommand

from ollamake.catalog import Model
from ollamake.comment import CHANGE, STALE, Row, comment
from ollamake.foresight import Foresight
from ollamake.graph import Step
from ollamake.plan import Planned, by_model
from ollamake.sights import Sights
from ollamake.since import Difference
from ollamake.spelling import counted

AS_MARKDOWN = {"name": "markdown", "long": "markdown", "type": bool, "default": False, "help": "print a comment for a pull request"}


def refuse_both(*, json: bool, markdown: bool) -> None:
    """Raise InvalidCommand where both are asked for."""
    if json and markdown:
        msg = "--json and --markdown: one of the two"
        raise InvalidCommand(msg)


def comment_on_edits(
    since: str,
    commit: str,
    found: Sequence[tuple[Difference, Sights, tuple[Step, ...]]],
    wanted: Collection[str] | None,
    where: str,
) -> str:
    """The comment of `doit affected`. Trainings have times where the past is here, as on a machine that has built the repo before."""
    rows: list[Row] = []
    for different, sights, steps in found:
        seconds = Foresight(sights, steps).seconds
        plans = tuple(replace(plan, seconds=seconds(plan.step)) if plan.step.stage == "train" else plan for plan in different.plans)
        about = {name: f"it was {was}" for name, was in different.added.items() if was}
        rows += [row for row in rows_of(plans, different.models, about) if wanted is None or row.name in wanted]
    models = sum(len(different.models) for different, _, _ in found)
    return comment(
        rows,
        models=models if wanted is None else len(wanted),
        verb=CHANGE,
        where=where,
        gone=[name for different, _, _ in found for name in different.gone] if wanted is None else (),
        notes=dict.fromkeys(note for different, _, _ in found for note in different.notes),
        foot=[f"Compared with {commit[:8]}, by git and `models.lock` alone. `?`: only where what comes before it comes out otherwise."],
        more=f"doit affected --since {since}",
    )


def comment_on_plan(plans: Sequence[Planned], models: Mapping[str, Model], *, may_be_cached: bool) -> str:
    """The comment of `doit plan`."""
    trains = [plan for plan in plans if plan.trains]
    away = sum(any(reason.kind == "target gone" for reason in plan.reasons) for plan in trains)
    foot = [f"{counted(away, 'adapter')} not on this machine. What an edit changes, `doit affected --since REV` says without."] if away else []
    foot += ["The cache may have some of these adapters: what it has is not trained."] if may_be_cached and trains else []
    return comment(tuple(rows_of(plans, models, {})), models=len(models), verb=STALE, foot=foot, more="doit plan")


def rows_of(plans: Sequence[Planned], models: Mapping[str, Model], about: Mapping[str, str]) -> Iterator[Row]:
    """A row for each model that has plans, and each dataset that no model reads."""
    for name, own in by_model(plans, models).items():
        yield Row(name=name, plans=tuple(own), about=about.get(name, ""))
    read = {dataset.name for model in models.values() for dataset in model.data}
    for plan in plans:
        if plan.step.stage == "validate" and plan.step.name not in read:
            yield Row(name=plan.step.id, plans=(plan,), is_model=False)
