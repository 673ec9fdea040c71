"""Texts with values of the environment in them: in all that is kept, the catalog's own spelling stands for them. Light: a build without work imports it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ollamake.digest import digest_bytes

_SHOWN = 16  # hex digits of a digest
_PLAIN = frozenset({str, int, float, bool, type(None)})  # kept as they are
_PIECE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\*\*/|\*\*|\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)  # of a pattern
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


class Expanded(str):
    """A text with values of the environment in it."""

    __slots__ = ("values", "written")

    written: str  # what the catalog says instead
    values: Mapping[str, str]  # variable -> value

    def __new__(cls, text: str, written: str, values: Mapping[str, str]) -> Expanded:
        """The text, and how it is written."""
        self = super().__new__(cls, text)
        self.written, self.values = written, values
        return self

    def __getnewargs__(self) -> tuple[str, str, Mapping[str, str]]:  # type: ignore[override]  # str's own takes the text alone
        return str(self), self.written, self.values


def joined(folder: str, path: str) -> str:
    """The path below the folder; its name is how the two are written."""
    whole = PurePath(folder, path).as_posix()
    if not isinstance(folder, Expanded) and not isinstance(path, Expanded):
        return whole
    values = {**getattr(folder, "values", {}), **getattr(path, "values", {})}
    return Expanded(whole, PurePath(written(folder), written(path)).as_posix(), values)


def normal(path: str) -> str:
    """The path without `..`, as far as that can be; in its name, what stands before the `..` may be many folders where it is a variable."""
    if not isinstance(path, Expanded):
        return posixpath.normpath(path)
    parts: list[str] = []
    for part in path.written.split("/"):
        if part == ".." and parts and parts[-1] not in {"", ".."} and "${" not in parts[-1]:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Expanded(posixpath.normpath(path), "/".join(parts), path.values)


def folder_of(path: str) -> str:
    """The folder that a file is in. Where a variable is all or part of the file's name, that may have folders in it."""
    folder = posixpath.dirname(path)
    if not isinstance(path, Expanded):
        return folder
    head, _, last = path.written.rpartition("/")
    return Expanded(folder, f"{path.written}/.." if "${" in last or last.endswith("]") else head, path.values)


def like(path: str, pattern: str) -> str:
    """A path that the pattern matches: a variable stands in its name where the pattern has it, and the rest is the path's own."""
    if not isinstance(pattern, Expanded) or path == pattern:
        return pattern if path == pattern else path
    spelled, parts = pattern.written.split("/"), path.split("/")
    behind = next((place for place, part in enumerate(reversed(spelled)) if "${" in part or part == ".."), len(spelled))
    before = pattern.count("/") + 1 - behind  # parts that the pattern's values are in
    if parts[:before] == pattern.split("/")[:before]:
        name: str | None = "/".join((*spelled[: len(spelled) - behind], *parts[before:]))
    else:
        name = _in_place(path, pattern)
    return Expanded(path, name or f"{pattern.written} [{_short(path)}]", pattern.values)


def _in_place(path: str, pattern: Expanded) -> str | None:
    """The path with variables at their own places, behind or between wildcards; None where a value has wildcards itself."""
    variables: list[str] = []

    def as_regex(match: re.Match[str]) -> str:
        text, variable = match[0], match[1]
        if variable is not None:
            variables.append(match[0])
            value = pattern.values.get(variable, "")
            return f"({re.escape(PurePath(value).as_posix() if value else '')})"
        if text in _WILDCARDS:
            return _WILDCARDS[text]
        return "[^/]" if len(text) > 1 and text[0] == "[" else re.escape(text.removeprefix("$") if text == "$${" else text)

    found = re.fullmatch(_PIECE.sub(as_regex, pattern.written), path, re.DOTALL)
    if found is None:
        return None
    name = path
    for place, variable in reversed(list(enumerate(variables, start=1))):
        name = f"{name[: found.start(place)]}{variable}{name[found.end(place) :]}"
    return name


def written(text: str) -> str:
    """The name of a path or host in what is kept: a value of the environment is told by its variable."""
    return text.written if isinstance(text, Expanded) else text


def told(value: Any) -> Any:
    """A value of the catalog as it is kept: texts with values of the environment as they are written, and a digest by which another value is seen."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Expanded):
        return f"{value.written} [{_short(value)}]"
    if isinstance(value, Mapping):
        return {key: told(below) for key, below in value.items()}
    return [told(item) for item in value] if isinstance(value, list | tuple) else value


def digest_of(value: str | None) -> str | None:
    """The digest of a variable's value; None where it is not set."""
    return None if value is None else digest_bytes(value.encode(errors="surrogateescape"))


def _short(text: str) -> str:
    digest = digest_of(str(text))
    assert digest is not None  # of a text
    return digest.removeprefix("sha256:")[:_SHOWN]
