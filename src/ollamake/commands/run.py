"""doit's `run`, which is what `doit` alone does: its own, where a dodo.py has no steps of ollamake's; with these, a run that is theirs."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doit import cmd_run
from doit.action import PythonAction
from doit.cmdparse import CmdParseError
from doit.control import TaskControl
from doit.exceptions import InvalidCommand, InvalidTask
from doit.task import Stream

from ollamake.call import Call, begin, current
from ollamake.catalog import Model
from ollamake.catalog.places import RAY
from ollamake.commands.options import UnusableOptionError, WithOptions, need_dodo
from ollamake.say import take_any_text, unheard
from ollamake.state.backend import LockBackend, as_run
from ollamake.state.digests import digest_cache
from ollamake.state.files import LOCAL, PUSHING

ENGINE = {
    "name": "engine",
    "long": "engine",
    "type": str,
    "default": "",
    "choices": (("local", "on this machine"), ("ray", "on the Ray cluster of the catalog's `engine`")),
    "help": "where models are trained, whatever the catalog says",
}
QUIET_OPTION = {
    "name": "quiet",
    "short": "q",
    "long": "quiet",
    "type": bool,
    "default": False,
    "help": "say only what failed, warnings and the last line",
}
JSON_OPTION = {"name": "json", "long": "json", "type": bool, "default": False, "help": "print a JSON object a line for each event of the run"}


class RunCommand(WithOptions, cmd_run.Run):
    """Runs tasks; of ollamake's steps what is cheap first, trainings as the machine has room for them."""

    name = "run"
    cmd_options = (*cmd_run.Run.cmd_options, ENGINE, QUIET_OPTION, JSON_OPTION)
    json_is_events = True
    task_list: list[Any]
    sel_tasks: list[str]

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse and run. Returns doit's exit code. Raises what doit prints as an error."""
        self.typed = (() if self.name == "run" else (self.name,)) + tuple(in_args)
        try:
            return int(super().parse_execute(in_args) or 0)
        except UnusableOptionError as error:
            if "--json" not in in_args or not self.json_is_events:
                raise
            from ollamake.commands.spoken import refuse_with_events

            return refuse_with_events(error, self)
        except OSError as error:
            return unheard(error)

    def execute(self, params: Any, args: list[str]) -> int:
        """Run. Returns doit's exit code. Raises what doit prints as an error."""
        self.options = params
        take_any_text()
        try:
            if params["json"]:
                from ollamake.commands.spoken import run_with_events

                return run_with_events(lambda: self.run_steps(params, args), params, self)
            if params["quiet"]:
                from ollamake.commands.spoken import run_quietly

                return run_quietly(lambda: self.run_steps(params, args), params)
            return self.run_steps(params, args)
        except SystemExit as error:  # by a signal. What multiprocessing would clean up may be what the signal has left locked
            if self.is_ours and params["num_process"] and isinstance(error.code, int):
                from ollamake.bars import end

                end()
                sys.stdout.flush()
                os._exit(error.code)
            raise

    def run_steps(self, params: Any, args: list[str]) -> int:
        """Run, as `execute` does."""
        need_dodo(params)
        pushes = self.name == "push" or any(str(arg).startswith("push:") for arg in args)
        is_part = args or params.get("exclude") or params["always"] or params["single"] or pushes
        begin(Call(is_whole=not is_part, typed=self.typed, always=params["always"], pushes=pushes, engine=params["engine"] or None))
        with as_run():
            try:
                return int(super().execute(params, args) or 0)
            except (InvalidCommand, CmdParseError) as error:
                from ollamake.commands.look import typed_wrong

                told = typed_wrong(error, args, self.task_list, self.loader.cmd_names) if self.is_ours else None
                if told is None:
                    raise
                raise told from error
            finally:
                begin(Call())
                if self.is_ours:
                    self.dep_manager.backend.lock.release()

    @property
    def is_ours(self) -> bool:
        """Has the dodo.py to do with ollamake?"""
        return self.dep_manager is not None and isinstance(self.dep_manager.backend, LockBackend)

    def _execute(self) -> int:
        if not self.is_ours:
            if self.options["json"] or self.options["quiet"]:
                msg = "this dodo.py has no steps of ollamake's\n  fix: leave --json and --quiet out; doit's own are `-r json` and `-r error-only`"
                raise InvalidCommand(msg)
            return int(super()._execute(**{name: self.options[name] for name in inspect.signature(super()._execute).parameters}))
        if Path(LOCAL, PUSHING).exists():
            from ollamake.ollama.pushing import take_away_left

            take_away_left()
        is_whole = current().is_whole
        if current().seals and (self.sel_tasks or not seals_suffice(self.task_list, self.dep_manager)):
            begin(Call(typed=self.typed, engine=current().engine))
            self.task_list = self.loader.load_tasks(cmd=self, pos_args=[])
        if current().seals and all(task.name in seal.stages for task in self.task_list for seal in current().seals.values()):
            return self.report()
        self.before()
        code = self.take_steps()
        if code == 0:
            self.after()
            if is_whole:
                self.seal()
        return code

    def before(self) -> None:
        """What has to be so before the first step runs. Raises InvalidCommand."""
        trained = (step.subject for step in current().steps if step.stage == "train" and isinstance(step.subject, Model))
        if current().trains and any(model.engine.kind == RAY for model in trained) and importlib.util.find_spec("ray") is None:
            from ollamake.commands.build import need_ray

            need_ray(self.task_list, self.sel_tasks)

    def after(self) -> None:
        """What is to be done when all steps have."""

    def report(self) -> int:
        """End a run that has nothing to do, without a runner."""
        with self.reporting():
            self.tell_plan()
            self.reporter.complete_run()
        return 0

    def tell_plan(self) -> None:
        """Tell programs, where some listen, what this run will do."""
        if self.options["json"]:
            from ollamake.commands.spoken import tell_plan

            tell_plan(self.task_list, self.sel_tasks)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Make the reporter that the options ask for, and its stream."""
        options = self.options
        kind = self.reporters[options["reporter"]] if isinstance(options["reporter"], str) else options["reporter"]
        out = Path(options["outfile"]).open("w", encoding="utf-8") if isinstance(options["outfile"], str) else options["outfile"]  # noqa: SIM115
        self.outstream = out
        self.reporter = kind(out, {"failure_verbosity": options["failure_verbosity"]}) if isinstance(kind, type) else kind
        try:
            yield
        finally:
            if isinstance(options["outfile"], str):
                out.close()

    def take_steps(self) -> int:
        """Run the selected tasks with runners of our own, otherwise as doit does. Returns its exit code."""
        from ollamake import runner
        from ollamake.reporter import step_of

        options = self.options
        PythonAction.pm_pdb = options["pdb"]
        self.control = TaskControl(self.task_list, auto_delayed_regex=options["auto_delayed_regex"])
        self.control.process(self.sel_tasks)
        if options["single"]:
            for name in self.control.selected_tasks:
                task = self.control.tasks[name]
                for alone in (self.control.tasks[sub] for sub in task.task_dep) if task.has_subtask else (task,):
                    alone.task_dep = []
        self.control.selected_tasks = model_by_model(self.control.selected_tasks, self.control.tasks)
        if options["quiet"]:
            for task in self.control.tasks.values():
                task.verbosity = task.verbosity if step_of(task) is not None else min(task.verbosity or 0, 1)
        with self.reporting():
            self.tell_plan()
            stream = Stream(options["verbosity"], options["force_verbosity"])
            running = (self.dep_manager, self.reporter, options["continue_"], options["always"], stream)
            steps = runner.of(*running, processes=options["num_process"], kind=options["par_type"])
            return int(steps.run_all(self.control.task_dispatcher()))

    def seal(self) -> None:
        """Note that everything is fresh, where it is."""
        from ollamake.reporter import seconds_of_training
        from ollamake.seal import write_seal
        from ollamake.tasks import groups_of

        database = self.dep_manager.backend
        for path, (run, steps) in current().catalogs.items():
            if any(str(entry.get("step")).startswith(("register:", "test:")) for entry in database.noted):
                run.sights.ask_again()
            reused = sum(seconds_of_training(step) for step in steps if step.stage == "train")
            write_seal(path, run.sights, steps, reused=reused, stages=groups_of(steps))
        digest_cache().save()


def model_by_model(selected: list[str], tasks: Mapping[str, Any]) -> list[str]:
    """The selected tasks; where all models are to be registered and tested, each one is tested before the next one is registered.

    Stage by stage, one that does not load would keep the others from their tests, and so from being used.
    """
    found: dict[str, None] = {}
    for name in selected:
        if "test" in selected and name in {"register", "test"} and tasks["test"].has_subtask:
            found.update(dict.fromkeys(tasks["test"].task_dep))
        found[name] = None
    return list(found)


def seals_suffice(tasks: list[Any], dep_manager: Any) -> bool:
    """May the steps that seals have answered for be left out of a run of these tasks?

    Only where no other task will run, as it might make anew what a step reads, whether it says so or not; nor names a step, nor makes tasks itself.
    """
    try:
        control = TaskControl(tasks)
    except InvalidTask:  # one names a step
        return False
    others = [task for task in tasks if not task.has_subtask]
    if any(task.loader or task.calc_dep or task.setup_tasks for task in others):
        return False
    return all(dep_manager.get_status(task, control.tasks).status == "up-to-date" for task in others)
