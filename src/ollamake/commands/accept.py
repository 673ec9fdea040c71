"""`doit accept SELECTOR... --because TEXT`: take the adapter that is there as the one that would be trained now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.commands.look import OptionsAnywhere, models_of, refused
from ollamake.commands.run import RunCommand
from ollamake.commands.select import EXCLUDE, selected
from ollamake.errors import BuildError, as_printed
from ollamake.graph import Step
from ollamake.stages.accept import accepted
from ollamake.state.backend import VALUES

if TYPE_CHECKING:
    from ollamake.run import Run

BECAUSE = {"name": "because", "long": "because", "type": str, "default": "", "help": "why: it is kept in models.lock, and shown by `doit why`"}


class AcceptCommand(OptionsAnywhere, RunCommand):
    """Take an adapter as built."""

    name = "accept"
    doc_purpose = "take the adapter that is there as built: trained elsewhere, or a recipe edit that changes nothing"
    doc_usage = 'SELECTOR... --because "TEXT"'
    doc_description = (
        "Brings the text of the models up to date, checks their adapters against the base, and notes them as trained from what is there now. "
        "Nothing is trained; the next `doit` packages and registers."
    )
    cmd_options = (*RunCommand.cmd_options, BECAUSE, EXCLUDE)

    def execute(self, params: Any, args: list[str]) -> int:
        """Accept. Returns doit's exit code. Raises what doit prints as an error."""
        if not args or not params["because"].strip():
            msg = 'usage: doit accept SELECTOR... --because "TEXT"'
            raise InvalidCommand(msg)
        return super().execute(params, args)

    def before(self) -> None:
        """Run no more than the conversions of these models. Raises InvalidCommand."""
        models = models_of(current().steps)
        names = selected(self.sel_tasks, self.options["exclude"])
        for name in names:
            adapter = models[name].adapter
            if adapter is not None:
                error = BuildError(f"{models[name].mark}: model {name!r} is not trained here", fix=f"nothing to accept: {adapter} is taken as it is")
                raise InvalidCommand(as_printed(error))
        self.accepted = {f"train:{name}" for name in names}
        self.sel_tasks = [f"convert:{name}" for name in names]

    def after(self) -> None:
        """Note the adapters as built. Raises InvalidCommand."""
        for run, steps in current().catalogs.values():
            for step in steps:
                if step.id in self.accepted:
                    self.outstream.write(f"{self.accept(run, step)}\n")
        self.dep_manager.backend.dump()

    def accept(self, run: Run, step: Step) -> str:
        """Note one; what there is to say of it. Raises InvalidCommand where there is no adapter that fits."""
        because = self.options["because"].strip()
        try:
            if not run.sights.reasons(step, run.sights.remembered(step)):
                return f"{step.id} is fresh: nothing to accept"
            receipt = accepted(step, run.sights.keys(step), because, commit=run.commit)
        except (BuildError, OSError) as error:
            raise refused(error) from error
        self.dep_manager.backend.set(step.id, VALUES, run.told(step, receipt))
        return f"{step.id} is taken as built from what is there now: {because}\n{Path(step.writes[0]).parent} is packaged and registered by the next `doit`"
