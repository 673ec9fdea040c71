"""doit's own commands that are about tasks, with the options of ollamake's: `--help`, options behind names, and errors that say what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doit import cmd_clean, cmd_forget, cmd_ignore, cmd_info, cmd_list
from doit.exceptions import InvalidCommand

from ollamake.commands.look import OptionsAnywhere
from ollamake.errors import BuildError, as_printed
from ollamake.spelling import closest
from ollamake.state.backend import LockBackend


class Forget(OptionsAnywhere, cmd_forget.Forget):
    """Have steps done again."""

    def _execute(self, forget_sub: Any, forget_disable_default: Any, forget_all: Any) -> None:  # the names are doit's
        if not (forget_all or self.sel_tasks):
            msg = "doit forget: no task is named"
            raise InvalidCommand(as_printed(BuildError(msg, fix="name one (`doit list --all` lists them), or write --all")))
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

    def clean_tasks(self, tasks: Any, dryrun: Any, cleanforget: Any) -> None:
        """Remove it, when no build is on. Raises StateError, which would be a traceback within a task."""
        backend = self.dep_manager.backend
        if isinstance(backend, LockBackend) and not dryrun:
            backend.hold()
        super().clean_tasks(tasks, dryrun, cleanforget)


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
