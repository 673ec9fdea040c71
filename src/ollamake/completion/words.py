"""What may stand where the cursor is. Pure: it is told the commands, and the names of the repo."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Commands: TypeAlias = Mapping[str, Mapping[str, Any]]  # name -> purpose, usage, options
Names: TypeAlias = Mapping[str, Any]  # models, trained, datasets, bases, tags, tasks
Word: TypeAlias = tuple[str, str]  # and what it is

RUN = "run"  # what doit does where no command is named
# Options whose values are of a kind, by the words of usages.
VALUES = {
    **dict.fromkeys(("exclude",), "SELECTOR"),
    **dict.fromkeys(("file", "output-file", "adapter", "catalog", "dir", "db-file", "junit"), "FILE"),
    "base": "BASE",
}
STATES = ("fresh", "modified", "new", "stale")
OF_A_MODEL = ("convert", "train", "package", "register", "test")
OF_TRAINED = ("convert", "train")  # which a model has whose adapter is not given
SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command line up to the cursor."""

    command: str = RUN
    is_named: bool = False  # is the command there, or the first name of a run?
    arguments: tuple[str, ...] = ()
    waits: Mapping[str, Any] | None = None  # the option whose value comes next
    loader: Mapping[str, str] = field(default_factory=dict)  # which dodo.py: `file`, `dir`


def typed(words: Sequence[str], commands: Commands) -> Typed:
    """What these words, all that stand between the program and the cursor's word, come to."""
    command, is_named, arguments, loader = RUN, False, [], {}
    waits: Mapping[str, Any] | None = None
    for word in words:
        if waits is not None:
            loader[waits["long"]] = word
            waits = None
        elif word.startswith("-") and word != "-":
            name, _, value = word.lstrip("-").partition("=")
            option = _option(word, commands[command]["options"])
            if option is not None and option["takes"] and not value and not (option["short"] and len(word) > 2 and not word.startswith("--")):
                waits = option
            elif value:
                loader[name] = value
        elif not is_named and word in commands:
            command, is_named = word, True
        else:
            is_named = True
            arguments.append(word)
    return Typed(command=command, is_named=is_named, arguments=tuple(arguments), waits=waits, loader=loader)


def _option(word: str, options: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    name = word.partition("=")[0]
    return next((one for one in options if name == f"--{one['long']}" or (one["short"] and name[:2] == f"-{one['short']}")), None)


def candidates(so_far: Typed, current: str, commands: Commands, names: Names) -> Iterator[Word]:
    """The words that may stand there, all of which begin with `current`; FILES where files may."""
    found = _of_options(so_far, current, commands, names) if current.startswith("-") else _of_place(so_far, current, commands, names)
    seen = set()
    for word, what in found:
        if word.startswith(current) and word not in seen:
            seen.add(word)
            yield word, what


def wants_files(so_far: Typed, current: str, commands: Commands) -> bool:
    """May files stand there?"""
    if so_far.waits is not None:
        return VALUES.get(so_far.waits["long"]) == "FILE"
    kinds = _kinds(commands[so_far.command]["usage"])
    return not current.startswith("-") and so_far.is_named and "FILE" in kinds and (bool(current) or kinds == ["FILE"])


def _of_options(so_far: Typed, current: str, commands: Commands, names: Names) -> Iterator[Word]:
    options = commands[so_far.command]["options"]
    name, has_value, value = current.partition("=")
    option = _option(name, options)
    if has_value and option is not None:
        yield from ((f"{name}={word}", what) for word, what in _values(option, value, names))
        return
    for one in options:
        if one["long"]:
            yield f"--{one['long']}{'=' if one['takes'] else ''}", one["help"]
        if one["short"] and current in {"-", f"-{one['short']}"}:
            yield f"-{one['short']}", one["help"]


def _of_place(so_far: Typed, current: str, commands: Commands, names: Names) -> Iterator[Word]:
    if so_far.waits is not None:
        yield from _values(so_far.waits, current, names)
        return
    if not so_far.is_named:
        yield from ((name, command["purpose"]) for name, command in commands.items())
    usage = commands[so_far.command]["usage"]
    kinds = _kinds(usage)
    if not so_far.arguments:  # `status | verify | push | prune`
        yield from ((word, "") for word in re.findall(r"(?:^|\| )([a-z]+)(?= \||$)", usage))
    if so_far.arguments and len(kinds) == 1 and "..." not in usage and "MODEL" in kinds:
        return
    for kind in kinds:
        yield from _of_kind(kind, current, names, commands)


def _kinds(usage: str) -> list[str]:
    """The kinds of arguments of a usage: `MODEL` of `MODEL [--record N]`, in which N is an option's value."""
    return re.findall(r"\b[A-Z]{4,}\b", re.sub(r'--[a-z-]+ "?[A-Z|]+"?|"[A-Z]+"', "", usage))


def _values(option: Mapping[str, Any], current: str, names: Names) -> Iterator[Word]:
    yield from ((word, what) for word, what in option["choices"])
    yield from _of_kind(VALUES.get(option["long"], ""), current, names, {})


def _of_kind(kind: str, current: str, names: Names, commands: Commands) -> Iterator[Word]:
    if kind == "SELECTOR":
        yield from _selectors(current, names)
    if kind == "MODEL":
        yield from names["models"].items()
    if kind == "DATASET":
        yield from names["datasets"].items()
    if kind == "BASE":
        yield from names["bases"].items()
    if kind == "TASK" or (kind == "SELECTOR" and ":" in current):
        yield from _tasks(current, names)
    if kind == "COMMAND":
        yield from ((name, command["purpose"]) for name, command in commands.items())
    if kind == "SHELL":
        yield from ((shell, "") for shell in SHELLS)


def _tasks(current: str, names: Names) -> Iterator[Word]:
    """Stages; behind a colon their steps; tasks of the user's."""
    if names["models"]:
        stages = ("validate", *OF_A_MODEL)
        yield from ((stage, "all of this stage") for stage in stages)
        if ":" not in current:
            yield from ((f"{stage}:", "one of this stage") for stage in stages)
    if ":" in current:
        yield from ((f"validate:{name}", what) for name, what in names["datasets"].items())
        for stage in OF_A_MODEL:
            yield from ((f"{stage}:{name}", names["models"][name]) for name in (names["trained"] if stage in OF_TRAINED else names["models"]))
    yield from ((name, "task of dodo.py") for name in names["tasks"])


def _selectors(current: str, names: Names) -> Iterator[Word]:
    """Names of models, and methods; behind a comma the next part, before a name `+`."""
    done, comma, part = current.rpartition(",")
    plus = "+" if part.startswith("+") else ""
    before = f"{done}{comma}{plus}"
    yield from ((f"{before}{name}", what) for name, what in names["models"].items())
    methods = {"tag": names["tags"], "base": names["bases"], "data": names["datasets"], "state": dict.fromkeys(STATES, "")}
    for method, values in methods.items():
        if part.removeprefix("+").startswith(f"{method}:"):
            yield from ((f"{before}{method}:{value}", what) for value, what in values.items())
        elif values:
            yield f"{before}{method}:", "models by it"
    yield f"{before}since:", "models that edits since a commit change"
