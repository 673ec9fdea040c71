"""What commands share that look at the steps of a dodo.py and run none of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.control import TaskControl
from doit.exceptions import InvalidCommand

from ollamake.call import Call, begin, current
from ollamake.catalog import Model
from ollamake.commands.options import WithOptions, need_dodo
from ollamake.errors import BuildError, as_printed
from ollamake.graph import Step
from ollamake.run import Run
from ollamake.say import is_unheard, take_any_text, unheard
from ollamake.sights import Sights
from ollamake.spelling import closest
from ollamake.state.files import remedy

NO_STEPS = "this dodo.py has no steps of ollamake's\n  fix: yield from tasks_from(...) in a task creator"
THREADS = "OPENBLAS_NUM_THREADS"
FOR_PROGRAMS = frozenset({"--json", "--markdown"})  # options by which what is written is read by a program
AS_JSON = {"name": "json", "long": "json", "type": bool, "default": False, "help": "print one JSON object"}


class OptionsAnywhere(WithOptions):
    """A command whose options may stand behind its arguments too."""

    options_anywhere = True

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse and execute. Returns the exit code. Raises what doit prints as an error."""
        take_any_text(for_programs=not FOR_PROGRAMS.isdisjoint(in_args))
        try:
            code = int(super().parse_execute(in_args) or 0)
            sys.stdout.flush()
        except OSError as error:
            return unheard(error)
        return code


class Look(OptionsAnywhere, DoitCmdBase):
    """A command that looks. Files that the catalog names need not be there."""

    task_list: list[Any]
    sel_tasks: list[str]
    loads = True

    def execute(self, params: Any, args: list[str]) -> int:
        """Look. Returns the exit code. Raises what doit prints as an error."""
        need_dodo(params)
        begin(Call(only_looks=True, loads=self.loads))
        try:
            with one_thread():
                return int(super().execute(params, args) or 0)
        except (BuildError, OSError) as error:
            if is_unheard(error):
                raise
            raise refused(error) from error
        finally:
            begin(Call())

    def catalogs(self) -> list[tuple[Sights, tuple[Step, ...]]]:
        """Each catalog of the dodo.py, with its steps. Raises InvalidCommand where there is none."""
        return [(run.sights, steps) for run, steps in self.runs()]

    def runs(self) -> list[tuple[Run, tuple[Step, ...]]]:
        """What a run of each catalog of the dodo.py would have, with its steps. Raises InvalidCommand where there is none."""
        if not current().catalogs:
            raise InvalidCommand(NO_STEPS)
        return list(current().catalogs.values())


def refused(error: BuildError | OSError) -> InvalidCommand:
    """What doit prints of it: of a file that can't be read, its name and what to do."""
    if isinstance(error, OSError):
        error = BuildError(f"{error.filename}: {error.strerror}" if error.filename else str(error), fix=remedy(error))
    return InvalidCommand(as_printed(error))


@contextmanager
def one_thread() -> Iterator[None]:
    """Within this, NumPy starts no threads when it is imported: none is asked for anything, and to start them takes as long as the import."""
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]


def models_of(steps: Iterable[Step]) -> dict[str, Model]:
    """The models by name, in the catalog's order."""
    return {step.name: step.subject for step in steps if isinstance(step.subject, Model)}


def needed_by(models: Iterable[str], steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps of these models, and those that make what they read: of datasets, and of models whose adapters they start from. In their order."""
    steps, wanted = tuple(steps), set(models)
    makers = {path: step for step in steps for path in (*step.writes, step.id)}
    found: dict[str, Step] = {}
    coming = [step for step in steps if step.stage != "validate" and step.name in wanted]
    while coming:
        step = coming.pop()
        if step.id not in found:
            found[step.id] = step
            coming.extend(makers[path] for path in (*step.reads, *step.after) if path in makers)
    return tuple(step for step in steps if step.id in found)


def needing(some: Iterable[Step], steps: Iterable[Step]) -> set[str]:
    """The models that need any of these steps: their own, or of a dataset that they read."""
    found = {(step.stage == "validate", step.name) for step in some}
    return {
        name for name, model in models_of(steps).items() if (False, name) in found or any((True, dataset.name) in found for dataset in model.data)
    }


def in_a_run(tasks: list[Any], names: list[str], steps: Iterable[Step]) -> list[Step]:
    """The steps that doit comes to in a run of these tasks, in their order. Raises InvalidCommand."""
    from ollamake.reporter import selected_with_dependencies

    control = TaskControl(tasks)
    control.process(names)
    chosen = selected_with_dependencies(control.tasks, control.selected_tasks)
    return [step for step in steps if step.id in chosen]


def typed_wrong(error: Exception, words: Sequence[str], tasks: Sequence[Any], commands: Sequence[str]) -> InvalidCommand | None:
    """What is said where doit can't run these words: of a name that is nobody's, and of an option behind a step. None where doit's own error says it."""
    name = getattr(error, "not_found", None)
    if name is not None:
        near = closest(name, [*commands, *(task.name for task in tasks)])
        fix = f"write {near!r}" if near else "`doit help` lists the commands, `doit list` the tasks"
        if name in models_of(current().steps):
            fix = f"`doit build {name}` builds the model"
        return InvalidCommand(as_printed(BuildError(f"no command, task or target {name!r}", fix=fix)))
    option = next((at for at, word in enumerate(words) if word.startswith("-")), 0)
    if not isinstance(error, CmdParseError) or not option or any(task.params for task in tasks if task.name == words[option - 1]):
        return None
    fix = f"write options before it, or `doit build {shlex.join(words)}`"
    return InvalidCommand(as_printed(BuildError(f"doit: {words[option]} stands behind the task {words[option - 1]}", fix=fix)))
