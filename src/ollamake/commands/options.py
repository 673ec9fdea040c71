"""What is typed behind `doit COMMAND`: its options, told apart from its arguments; and the dodo.py that it is about."""

from __future__ import annotations

import os
from collections.abc import Mapping
from getopt import GetoptError, getopt, gnu_getopt
from pathlib import Path
from typing import Any

from doit.cmd_base import Command
from doit.cmdparse import CmdOption, CmdParse, CmdParseError
from doit.exceptions import InvalidCommand

from ollamake.errors import BuildError, as_printed
from ollamake.spelling import closest, nearest

INTERRUPTED = 130  # exit code, as of shells
KINDS = {int: "a whole number", float: "a number", bool: "yes or no"}


class UnusableOptionError(InvalidCommand):
    """An option that there is not, or a value that it does not take."""


class HelpAskedError(UnusableOptionError):
    """`--help`, which is no option of doit's commands."""


class Options(CmdParse):
    """doit's, but for what it says of a mistake."""

    def __init__(self, options: list[CmdOption], *, command: str, anywhere: bool) -> None:
        """`anywhere`: behind arguments too; doit's own end at the first argument."""
        super().__init__(options)
        self.typed_as = "doit" if command == "run" else f"doit {command}"
        self.lists = f"`doit help {command}` lists the options"
        self.anywhere = anywhere

    def parse_only(self, in_args: list[str], params: Any = None) -> tuple[Any, list[str]]:
        """The values by name, and the arguments. Raises UnusableOptionError."""
        params = {} if params is None else params
        split = gnu_getopt if self.anywhere else getopt
        try:
            typed, arguments = split(in_args, self.get_short(), self.get_long())
        except GetoptError as error:
            raise self.unusable(in_args, error) from error
        for word, text in typed:
            option, is_inverse = self.get_option(word)
            if option.type is bool:
                params[option.name] = not is_inverse
            elif option.type is list:
                params[option.name] = [*params.get(option.name, ()), text]
            else:
                params[option.name] = self.value(option, word, text)
        return params, arguments

    def value(self, option: CmdOption, word: str, text: str) -> Any:
        """What this text means as the option's value. Raises UnusableOptionError."""
        try:
            return option.str2type(text)
        except CmdParseError as error:
            fix = nearest(text, map(str, option.choices)) if option.choices else f"write {KINDS.get(option.type, 'another value')}"
            what = f"{word} can't be {text!r}"
            raise self.refused(what, fix) from error

    def unusable(self, in_args: list[str], error: GetoptError) -> UnusableOptionError:
        """What is said of options that getopt has not taken."""
        is_letter, names = len(error.opt) == 1, [name.removesuffix("=") for name in self.get_long()]
        if error.opt in self.get_short() if is_letter else any(name.startswith(error.opt) for name in names):
            return self.refused(error.msg, self.lists)
        typed = (word.partition("=")[0] for word in in_args)
        word = next(word for word in typed if word.startswith(f"--{error.opt}") or (is_letter and word[:1] == "-" and error.opt in word))
        if word in {"-h", "--help"}:
            return HelpAskedError(self.lists)
        near = closest(word.lstrip("-"), names)
        return self.refused(f"unknown option {word}", self.lists if near is None else f"write --{near} ({self.lists})")

    def refused(self, what: str, fix: str) -> UnusableOptionError:
        """The error, in the words of all of them."""
        return UnusableOptionError(as_printed(BuildError(f"{self.typed_as}: {what}", fix=fix)))


class WithOptions(Command):
    """A command that says of a mistake in its options what is meant."""

    options_anywhere = False
    _cmdparser: Options | None

    @property
    def cmdparser(self) -> Options:
        """Its options, with the defaults of the user's configuration."""
        if self._cmdparser is None:
            self._cmdparser = Options(self.get_options(), command=self.name, anywhere=self.options_anywhere)
            self._cmdparser.overwrite_defaults(self.config_vals)
        return self._cmdparser

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse and execute, or print the help. Returns the exit code. Raises what doit prints as an error."""
        try:
            return int(super().parse_execute(in_args) or 0)
        except HelpAskedError:
            print(self.help())
            return 0
        except KeyboardInterrupt:  # of a run: before its first step, or after its last one
            return INTERRUPTED


def need_dodo(params: Mapping[str, Any]) -> str | None:
    """The path of the dodo.py that is meant; None where the tasks are no file's. Raises InvalidCommand where it is not there."""
    if "dodoFile" not in params:
        return None
    name = params["dodoFile"]
    here = Path(name).resolve()
    above = next((folder for folder in Path.cwd().parents if (folder / name).is_file()), None)
    if here.is_file():
        return str(here)
    if above is not None and params["seek_file"]:
        return str(above / name)
    there = f"`cd {os.path.relpath(above)}`, where one is, or `doit -k`" if above is not None else "go to the folder of your repo, or name it with -f"
    new = "; `ollamake init` writes a new repo" if name == "dodo.py" else ""
    raise InvalidCommand(as_printed(BuildError(f"{name}: no such file", fix=f"{there}{new}")))
