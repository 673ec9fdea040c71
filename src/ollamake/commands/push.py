"""`doit push [SELECTOR...]`: models are brought up to date, and those that passed their tests go where their `push` says."""

from __future__ import annotations

import contextlib
import json as to_json
import sys
from collections.abc import Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.commands.build import BuildCommand
from ollamake.commands.look import AS_JSON, models_of, needed_by
from ollamake.commands.plan import STALE
from ollamake.commands.run import RunCommand
from ollamake.commands.select import selected
from ollamake.errors import BuildError, as_printed
from ollamake.foresight import Foresight
from ollamake.plan import planned
from ollamake.pushing import Pushing, pushings
from ollamake.spelling import counted

DRY_RUN = {
    "name": "dry_run",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": f"say what would be sent, and send and build nothing; exit code {STALE} where something would be",
}


class PushCommand(BuildCommand):
    """Publish models."""

    name = "push"
    doc_purpose = "publish models where their `push` says, brought up to date and tested before"
    doc_usage = "[SELECTOR...]"
    doc_description = (
        "Of all models that have a `push`, or those of them that are selected. What a target has already is not sent again; "
        "what did not pass its tests is not sent at all. No other command publishes anything."
    )
    cmd_options = (*BuildCommand.cmd_options, DRY_RUN, AS_JSON)
    json_is_events = False  # one object
    pushed: Sequence[Pushing] = ()

    def execute(self, params: Any, args: list[str]) -> int:
        """Push. Returns doit's exit code. Raises what doit prints as an error."""
        self.as_json, params["json"] = params["json"], False  # of the build itself no events are told
        if not self.as_json:
            return int(super().execute(params, args) or 0)
        out = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):  # the build's own lines
            code = int(super().execute(params, args) or 0)
        out.write(to_json.dumps({"ok": code == 0, "models": self.told}, indent=2, ensure_ascii=False) + "\n")
        return code

    def before(self) -> None:
        """Take the selectors. Raises InvalidCommand."""
        if self.as_json:
            self.options["outfile"] = sys.stderr
        typed = [] if self.sel_default_tasks else self.sel_tasks
        known = {pushing.model.name: pushing for run, steps in current().catalogs.values() for pushing in pushings(run, steps)}
        names = selected([name.removeprefix("push:") for name in typed], self.options["exclude"])
        lacking = [name for name in names if name not in known]
        if not known or (typed and names and len(lacking) == len(names)):
            named = models_of(current().steps)
            mark = named[names[0]].mark if names else next(iter(named.values())).mark
            what = f"model {names[0]!r} has no `push`" if known else "no model has a `push`"
            error = BuildError(f"{mark}: {what}", fix="write `push: {ollama: USER/MODEL}`, or `push: {hub: OWNER/NAME}`, into its entry")
            raise InvalidCommand(as_printed(error))
        self.pushed = [known[name] for name in names if name in known]
        self.sel_tasks = [f"push:{pushing.model.name}" for pushing in self.pushed]
        if self.options["max_train_minutes"] is not None:
            self.refuse_long_trainings(self.options["max_train_minutes"])
        self.told = [self.said(pushing) for pushing in self.pushed]
        RunCommand.before(self)

    def take_steps(self) -> int:
        """Build and push; or say what would be pushed."""
        if self.options["dry_run"]:
            for said in self.told:
                for due in said["due"]:
                    print(f".  push:{said['model']}  to {due['to']} {due['target']}  ({due['reason']})")
            if not any(said["due"] for said in self.told):
                where = "is where it belongs" if len(self.told) == 1 else "are where they belong"
                print(f"nothing to push: {counted(len(self.told), 'model')} {where}")
            return STALE if any(said["due"] for said in self.told) else 0
        code = super().take_steps()
        self.told = [{**said, "left": [due.as_json() for due in pushing.due()]} for said, pushing in zip(self.told, self.pushed, strict=True)]
        return code

    def said(self, pushing: Pushing) -> dict[str, Any]:
        """What is to be sent of a model, as far as it is known before it is built."""
        run = pushing.run
        steps = next(steps for one, steps in current().catalogs.values() if one is run)
        plans = planned(needed_by([pushing.model.name], steps), Foresight(run.sights, steps, times=False)) if self.options["dry_run"] else ()
        due = [one.as_json() for one in pushing.due(again=current().always)]
        if plans and not due:
            assert pushing.model.push is not None  # or else it is not pushed
            due = [
                {"to": kind, "target": target, "digest": None, "reason": f"{plans[0].step.id} will run before"}
                for kind, target in pushing.model.push.targets.items()
            ]
        return {"model": pushing.model.name, "due": due}
