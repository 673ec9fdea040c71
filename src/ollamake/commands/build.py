"""`doit build [MODEL...]`: doit's run, by the names of models, with options of ollamake's own."""

from __future__ import annotations

from itertools import chain
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.build import current
from ollamake.commands.look import OptionsAnywhere, models_of, selected
from ollamake.commands.plan import plans_of, total
from ollamake.commands.run import Run
from ollamake.duration import duration
from ollamake.plan import PERHAPS, UNKNOWN, YES

MOST = {
    "name": "max_train_minutes",
    "long": "max-train-minutes",
    "type": float,
    "default": None,
    "help": "refuse to start where the trainings are predicted to take longer; 0 refuses every training",
}


class Build(OptionsAnywhere, Run):
    """Bring models up to date."""

    name = "build"
    doc_purpose = "bring models up to date: all, or those that are named"
    doc_usage = "[MODEL...]"
    doc_description = "As `doit` alone, with MODEL for `register:MODEL`; `*` matches any text. Names of tasks are taken as well."
    cmd_options = (*Run.cmd_options, MOST)

    def execute(self, params: Any, args: list[str]) -> int:
        """Build. Returns doit's exit code. Raises what doit prints as an error."""
        self.most = params["max_train_minutes"]
        return super().execute(params, args)

    def before(self) -> None:
        """Take the names of models, and refuse what would take too long. Raises InvalidCommand."""
        if not current().runs:
            return
        steps = list(chain.from_iterable(current().steps.values()))
        models = models_of(steps)
        if not self.sel_default_tasks:
            tasks = {task.name for task in self.task_list}
            self.sel_tasks = [
                task
                for name in self.sel_tasks
                for task in ([name] if name in tasks and name not in models else _last_of(selected([name], steps), steps))
            ]
        if self.most is not None:
            self.refuse_long_trainings()

    def refuse_long_trainings(self) -> None:
        """Raise InvalidCommand where the plan has trainings that are too long, or of unknown length."""
        catalogs = [(run.sights, tuple(current().steps[path])) for path, run in current().runs.items()]
        chosen = {} if self.sel_default_tasks else dict.fromkeys(name.partition(":")[2] for name in self.sel_tasks)
        plans = [plan for plan in plans_of(catalogs, [name for name in chosen if name]) if plan.step.stage == "train"]
        plans = [plan for plan in plans if plan.runs in {YES, PERHAPS, UNKNOWN}]
        unknown = [plan.step.id for plan in plans if plan.seconds is None]
        took = total(plans, YES, PERHAPS, UNKNOWN)
        if plans and (unknown or took > self.most * 60 or self.most == 0):
            told = [f"    {plan.step.id}: {'nobody knows' if plan.seconds is None else duration(plan.seconds)}" for plan in plans]
            about = f"at least {duration(took)}" if unknown and took else "nobody knows how long" if unknown else f"about {duration(took)}"
            msg = "\n".join(
                [
                    f"\nthe trainings of this build would take {about}, and --max-train-minutes allows {self.most:g} min:",
                    *told,
                    "  fix: `doit plan` says why they are to run; leave --max-train-minutes out to run them",
                ]
            )
            raise InvalidCommand(msg)


def _last_of(models: list[str], steps: list[Any]) -> list[str]:
    return [f"register:{name}" for name in models if any(step.id == f"register:{name}" for step in steps)]
