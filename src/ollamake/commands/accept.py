"""`doit accept MODEL --because TEXT`: take the adapter that is there as the one that would be trained now."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.build import current
from ollamake.commands.look import OptionsAnywhere, models_of, selected
from ollamake.commands.run import Run
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.state.backend import VALUES
from ollamake.state.memory import as_printed

BECAUSE = {"name": "because", "long": "because", "type": str, "default": "", "help": "why: it is kept in models.lock, and shown by `doit why`"}


class Accept(OptionsAnywhere, Run):
    """Take an adapter as built."""

    name = "accept"
    doc_purpose = "take the adapter that is there as built: trained elsewhere, or a recipe edit that changes nothing"
    doc_usage = 'MODEL... --because "TEXT"'
    doc_description = (
        "Brings the text of the models up to date, checks their adapters against the base, and notes them as trained from what is there now. "
        "Nothing is trained; the next `doit` packages and registers."
    )
    cmd_options = (*Run.cmd_options, BECAUSE)

    def execute(self, params: Any, args: list[str]) -> int:
        """Accept. Returns doit's exit code. Raises what doit prints as an error."""
        self.because = params["because"].strip()
        if not args or not self.because:
            msg = 'usage: doit accept MODEL... --because "TEXT"'
            raise InvalidCommand(msg)
        return super().execute(params, args)

    def before(self) -> None:
        """Run no more than the conversions of these models. Raises InvalidCommand."""
        steps = list(chain.from_iterable(current().steps.values()))
        models = models_of(steps)
        self.accepted = [step for name in selected(self.sel_tasks, steps) for step in steps if step.id == f"train:{name}"]
        for name in selected(self.sel_tasks, steps):
            adapter = models[name].adapter
            if adapter is not None:
                error = BuildError(f"{models[name].mark}: model {name!r} is not trained here", fix=f"nothing to accept: {adapter} is taken as it is")
                raise InvalidCommand(as_printed(error))
        self.sel_tasks = [f"convert:{step.name}" for step in self.accepted]

    def after(self) -> None:
        """Note the adapters as built. Raises InvalidCommand."""
        for run in current().runs.values():
            for step in self.accepted:
                if step in current().steps[run.sights.catalog.path]:
                    self.outstream.write(f"{self.accept(run, step)}\n")
        self.dep_manager.backend.dump()

    def accept(self, run: Any, step: Step) -> str:
        """Note one; what there is to say of it. Raises InvalidCommand where there is no adapter that fits."""
        from ollamake.stages.accept import accepted

        if not run.sights.reasons(step, run.sights.remembered(step)):
            return f"{step.id} is fresh: nothing to accept"
        try:
            receipt = accepted(step, run, self.because)
        except (BuildError, OSError) as error:
            raise InvalidCommand(as_printed(error)) from error
        self.dep_manager.backend.set(step.id, VALUES, run.told(step, receipt))
        return f"{step.id} is taken as built from what is there now: {self.because}\n{Path(step.writes[0]).parent} is packaged and registered by the next `doit`"
