"""doit's own commands that are about tasks, with the options of ollamake's: `--help`, options behind names, and errors that say what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doit import cmd_clean, cmd_forget, cmd_ignore, cmd_info, cmd_list
from doit.exceptions import InvalidCommand

from ollamake.commands.look import OptionsAnywhere
from ollamake.errors import BuildError, as_printed
from ollamake.spelling import closest


class Forget(OptionsAnywhere, cmd_forget.Forget):
    """Have steps done again."""

    def _execute(self, forget_sub: Any, forget_disable_default: Any, forget_all: Any) -> None:  # the names are doit's
        if not (forget_all or self.sel_tasks):
            msg = "doit forget: no task is named"
            raise InvalidCommand(as_printed(BuildError(msg, fix="`doit forget train:NAME` has that done again, `doit forget --all` everything")))
        need_tasks("forget", self.sel_tasks or (), self.task_list)
        super()._execute(forget_sub, forget_disable_default, forget_all)


class Info(OptionsAnywhere, cmd_info.Info):
    """Show what a task is."""

    def _execute(self, pos_args: list[str], hide_status: Any) -> Any:
        need_tasks("info", pos_args, self.task_list)
        return super()._execute(pos_args, hide_status)


class List(OptionsAnywhere, cmd_list.List):
    """List tasks."""


class Clean(OptionsAnywhere, cmd_clean.Clean):
    """Remove what tasks have made."""


class Ignore(OptionsAnywhere, cmd_ignore.Ignore):
    """Have tasks left out."""


def need_tasks(command: str, names: Sequence[str], tasks: Sequence[Any]) -> None:
    """Raise InvalidCommand for a name that is no task's: with those of the model that has it, or the nearest one."""
    known = [task.name for task in tasks]
    for name in names:
        if name not in known:
            own, near = [task for task in known if task.partition(":")[2] == name], closest(name, known)
            fix = f"write {near!r}" if near else "`doit list --all` lists the tasks"
            error = BuildError(f"doit {command}: no task {name!r}", fix=f"name one of its tasks: {', '.join(own)}" if own else fix)
            raise InvalidCommand(as_printed(error))
