"""`doit build [SELECTOR...]`: doit's run of the models that are selected, with options of ollamake's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.cache.planned import planned_with
from ollamake.call import current
from ollamake.catalog import Model
from ollamake.catalog.places import RAY
from ollamake.commands.look import OptionsAnywhere, in_a_run, models_of
from ollamake.commands.plan import total
from ollamake.commands.run import RunCommand
from ollamake.commands.select import EXCLUDE, selected
from ollamake.duration import duration
from ollamake.errors import BuildError, as_printed
from ollamake.foresight import Foresight
from ollamake.graph import Step
from ollamake.plan import PERHAPS, UNKNOWN, YES, Planned
from ollamake.run import Run

MOST = {
    "name": "max_train_minutes",
    "long": "max-train-minutes",
    "type": float,
    "default": None,
    "help": "refuse to start where the trainings are predicted to take longer; 0 refuses every training, and takes what the cache has",
}


class BuildCommand(OptionsAnywhere, RunCommand):
    """Bring models up to date."""

    name = "build"
    doc_purpose = "bring models up to date: all, or those that are selected"
    doc_usage = "[SELECTOR...]"
    doc_description = "As `doit` alone, for the models that are selected, and what they need. Names of tasks are taken as well."
    cmd_options = (*RunCommand.cmd_options, MOST, EXCLUDE)

    def before(self) -> None:
        """Take the selectors, and refuse what would take too long. Raises InvalidCommand."""
        models, exclude = models_of(current().steps), self.options["exclude"]
        typed = [] if self.sel_default_tasks else self.sel_tasks
        known = {task.name: task for task in self.task_list if task.name not in models}
        tasks = [name for name in typed if name in known]
        selectors = [name for name in typed if name not in known]
        if tasks and exclude:
            tasks = self.without([known[name] for name in tasks], exclude)
        if selectors or exclude:
            self.sel_tasks = [*tasks, *(f"test:{name}" for name in (selected(selectors, exclude) if selectors or not typed else ()))]
        if self.options["max_train_minutes"] is not None:
            self.refuse_long_trainings(self.options["max_train_minutes"])
        super().before()

    def without(self, tasks: list[Any], exclude: list[str]) -> list[str]:
        """The names of these tasks and, in place of a stage, of its steps, but for the models' that are excluded. Raises InvalidCommand."""
        kept = selected((), exclude)
        gone = {step.id for step in current().steps if isinstance(step.subject, Model) and step.name not in kept}
        names = chain.from_iterable(task.task_dep if task.has_subtask else (task.name,) for task in tasks)
        return [name for name in dict.fromkeys(names) if name not in gone]

    def refuse_long_trainings(self, most: float) -> None:
        """Raise InvalidCommand where the run would train for more than so many minutes, or for nobody knows how long."""
        if not most >= 0:
            msg = f"--max-train-minutes {most:g}: not a number of minutes"
            raise InvalidCommand(msg)
        current().trains = most > 0  # what a cache has, it is asked when its step has its turn
        self.options["continue_"] |= most == 0  # a model that the cache has not got keeps none from those that it has
        plans = trainings_of(self.task_list, self.sel_tasks)
        unknown = any(plan.seconds is None for plan in plans)
        took = total(plans, YES, PERHAPS, UNKNOWN)
        if plans and (unknown or took > most * 60 or most == 0):
            about = "for nobody knows how long" if unknown else f"for about {duration(took)}"
            told = [f"    {plan.step.id}: {'nobody knows' if plan.seconds is None else duration(plan.seconds)}" for plan in plans]
            fix = "`doit plan` says why they are to run; leave --max-train-minutes out to run them"
            text = "\n".join([f"this build would train {about}, and --max-train-minutes allows {most:g} min:", *told])
            raise InvalidCommand(as_printed(BuildError(text, fix=fix)))


def trainings_of(tasks: list[Any], selected_tasks: list[str]) -> list[Planned]:
    """The trainings that a run of these tasks would do or may do; where nothing may be trained, those of catalogs without a cache."""
    return [
        plan
        for run, steps in current().catalogs.values()
        if current().trains or run.cache is None or not run.cache.reads
        for plan in trainings(run, steps, in_a_run(tasks, selected_tasks, steps))
    ]


def trainings(run: Run, steps: tuple[Step, ...], chosen: list[Step]) -> list[Planned]:
    """The trainings that a run of those steps that are chosen would do or may do: without those that the cache has."""
    return [plan for plan in plans_of(run, steps, chosen) if plan.may_train]


def plans_of(run: Run, steps: tuple[Step, ...], chosen: list[Step]) -> Sequence[Planned]:
    """What a run of those steps that are chosen would do or may do; all of it, where it is told to do all. The cache is asked."""
    foresight = Foresight(run.sights, steps)
    if current().always:
        return [Planned(step=step, runs=YES, reasons=(), seconds=foresight.seconds(step)) for step in chosen]
    return planned_with(run.cache, chosen, foresight)


def need_ray(tasks: list[Any], selected_tasks: list[str]) -> None:
    """Raise InvalidCommand where a run of these tasks would train on a cluster: Ray is not installed."""
    for run, steps in current().catalogs.values():
        for plan in trainings(run, steps, in_a_run(tasks, selected_tasks, steps)):
            model = plan.step.subject
            if isinstance(model, Model) and model.engine.kind == RAY:
                mark = run.sights.catalog.mark_of(model.name, "engine.kind") or model.mark
                error = BuildError(f"{mark}: models are trained on a Ray cluster, and Ray is not installed", fix="pip install 'ollamake[ray]'")
                raise InvalidCommand(as_printed(error))
