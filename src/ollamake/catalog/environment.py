"""`${NAME}` in the texts of a catalog file, replaced where `env` lists NAME."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ollamake.catalog.expanded import Expanded
from ollamake.catalog.values import KeyPath
from ollamake.spelling import nearest

FaultAt: TypeAlias = Callable[[KeyPath, str, str | None], None]

_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^{}]*)\}")  # `$${` is the text `${`
_NAMES = {"base", "data", "name", "tags", "exclude"}  # keys of a model that name something: the lock holds names


def listed(entries: Iterable[str | Mapping[str, str]]) -> dict[str, str | None]:
    """The variables that `env` lists, each with its default."""
    found: dict[str, str | None] = {}
    for entry in entries:
        found.update({entry: None} if isinstance(entry, str) else entry)
    return found


class Environment:
    """The variables that one file may use."""

    def __init__(self, defaults: Mapping[str, str | None], environ: Mapping[str, str]) -> None:
        """`defaults`: those that are listed; None where one has no default."""
        self.values = {name: environ.get(name, default) for name, default in defaults.items()}

    def expanded(self, value: Any, fault: FaultAt, at: KeyPath = ()) -> Any:
        """The value with each `${NAME}` replaced; `fault` is told of those that can't be."""
        if isinstance(value, str):
            return self._text(value, fault, at) if "${" in value else value
        if isinstance(value, Mapping):
            return {key: below if (*at, key) == ("env",) else self.expanded(below, fault, (*at, key)) for key, below in value.items()}
        return [self.expanded(item, fault, (*at, index)) for index, item in enumerate(value)] if isinstance(value, list) else value

    def _text(self, text: str, fault: FaultAt, at: KeyPath) -> str:
        used: dict[str, str] = {}

        def value_of(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return str(literal)
            value = self.values.get(name)
            if name not in self.values:
                ways = (nearest(name, self.values) if self.values else "", f"add {name!r} to `env`" if name.isidentifier() else "")
                fault(at, f"`${{{name}}}` is not listed in `env`", ", or ".join((*filter(None, ways), f"write `$${{{name}}}` for the text itself")))
            elif value is None:
                fault(at, f"the environment variable {name!r} is not set", f"set it, or list it with a default: `env: [{{{name}: VALUE}}]`")
            elif not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):  # as Python has bytes that are none
                fault(at, f"the environment variable {name!r} is not UTF-8", "set it to another value")
            used[name] = value or ""
            return used[name]

        result = _REFERENCE.sub(value_of, text)
        if not used:
            return result
        if _is_name(at):
            fault(at, f"{text!r}: a name can't come from the environment: models.lock would tell it", "write the name itself")
        elif all(self.values.get(name) is not None for name in used) and not result.strip():
            fault(at, f"{text!r}: it is empty", f"set {' or '.join(map(repr, used))} to a value")
        return Expanded(result, text, used)


def _is_name(at: KeyPath) -> bool:
    if "tests" in at[:4] and at[-1] in {"name", "dataset"} and "expect" not in at:
        return True
    if at[0] == "models":
        return not _NAMES.isdisjoint(at[2:4] if at[2:3] == ("matrix",) else at[2:3])
    return at[0] == "include" and at[-1] == "prefix"
