"""Texts with values of the environment in them: in all that is kept, the catalog's own spelling stands for them. Light: a build without work imports it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ollamake.digest import digest_bytes

_SHOWN = 16  # hex digits of a digest


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
    """The path below the folder; its name tells no value of the environment that stands in either."""
    values = {**getattr(folder, "values", {}), **getattr(path, "values", {})}
    whole = PurePath(folder, path).as_posix()
    return _named(whole, f"{written(folder)}/{written(path)}", values) if values else whole


def like(path: str, made_of: str) -> str:
    """A path that was made of this text, with a name that tells what the text tells."""
    return _named(path, made_of.written, made_of.values) if isinstance(made_of, Expanded) else path


def _named(path: str, spelling: str, values: Mapping[str, str]) -> Expanded:
    """Each value is told by its variable; where that can't be, all of the path by the spelling and a digest."""
    name = path
    for variable, value in values.items():
        if value:
            name = name.replace(PurePath(value).as_posix(), f"${{{variable}}}")
    if any(value and (value in name or f"${{{variable}}}" not in name) for variable, value in values.items()):
        name = f"{spelling} [{_short(path)}]"
    return Expanded(path, name, values)


def written(text: str) -> str:
    """The name of a path or host in what is kept: a value of the environment is told by its variable."""
    return text.written if isinstance(text, Expanded) else text


def told(value: Any) -> Any:
    """A value of the catalog as it is kept: texts with values of the environment as they are written, and a digest by which another value is seen."""
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
