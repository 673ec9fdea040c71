"""`doit build [MODEL...]`: doit's run, by the names of models, with options of ollamake's own."""

from __future__ import annotations

from itertools import chain

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.commands.look import OptionsAnywhere, in_a_run, models_of, selected
from ollamake.commands.plan import total
from ollamake.commands.run import RunCommand
from ollamake.duration import duration
from ollamake.errors import BuildError, as_printed
from ollamake.foresight import Foresight
from ollamake.graph import Step
from ollamake.plan import PERHAPS, UNKNOWN, YES, Planned, planned

MOST = {
    "name": "max_train_minutes",
    "long": "max-train-minutes",
    "type": float,
    "default": None,
    "help": "refuse to start where the trainings are predicted to take longer; 0 refuses every training",
}


class BuildCommand(OptionsAnywhere, RunCommand):
    """Bring models up to date."""

    name = "build"
    doc_purpose = "bring models up to date: all, or those that are named"
    doc_usage = "[MODEL...]"
    doc_description = "As `doit` alone, with MODEL for `register:MODEL`; `*` matches any text. Names of tasks are taken as well."
    cmd_options = (*RunCommand.cmd_options, MOST)

    def before(self) -> None:
        """Take the names of models, and refuse what would take too long. Raises InvalidCommand."""
        models = models_of(current().steps)
        if not self.sel_default_tasks:
            tasks = {task.name for task in self.task_list}
            known = [
                ([name] if name in tasks and name not in models else [f"register:{model}" for model in selected([name], models)])
                for name in self.sel_tasks
            ]
            self.sel_tasks = list(chain.from_iterable(known))
        if self.options["max_train_minutes"] is not None:
            self.refuse_long_trainings(self.options["max_train_minutes"])

    def refuse_long_trainings(self, most: float) -> None:
        """Raise InvalidCommand where the run would train for more than so many minutes, or for nobody knows how long."""
        if not most >= 0:
            msg = f"--max-train-minutes {most:g}: not a number of minutes"
            raise InvalidCommand(msg)
        plans = [
            plan
            for run, steps in current().catalogs.values()
            for plan in trainings(Foresight(run.sights, steps), in_a_run(self.task_list, self.sel_tasks, steps), always=current().always)
        ]
        unknown = any(plan.seconds is None for plan in plans)
        took = total(plans, YES, PERHAPS, UNKNOWN)
        if plans and (unknown or took > most * 60 or most == 0):
            about = "for nobody knows how long" if unknown else f"for about {duration(took)}"
            told = [f"    {plan.step.id}: {'nobody knows' if plan.seconds is None else duration(plan.seconds)}" for plan in plans]
            fix = "`doit plan` says why they are to run; leave --max-train-minutes out to run them"
            text = "\n".join([f"this build would train {about}, and --max-train-minutes allows {most:g} min:", *told])
            raise InvalidCommand(as_printed(BuildError(text, fix=fix)))


def trainings(foresight: Foresight, steps: list[Step], *, always: bool) -> list[Planned]:
    """The trainings that a run of these steps would do or may do; `always`: all."""
    if always:
        return [Planned(step=step, runs=YES, reasons=(), seconds=foresight.seconds(step)) for step in steps if step.stage == "train"]
    return [plan for plan in planned(steps, foresight) if plan.step.stage == "train" and plan.runs in {YES, PERHAPS, UNKNOWN}]
