"""The one family of errors that a user sees: what is wrong, where, and what to type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a text file of the user's."""

    path: str  # as the user would type it, relative to the catalog's folder
    line: int  # from 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in one place."""

    mark: Mark
    text: str
    fix: str | None = None

    def __str__(self) -> str:
        return with_fix(f"{self.mark}: {self.text}", self.fix)


def with_fix(text: str, fix: str | None) -> str:
    """The text, and below it what to type or edit."""
    return text if fix is None else f"{text}\n  fix: {fix}"


def without_fix(text: str) -> tuple[str, str | None]:
    """A text as `with_fix` has made it, in its two parts; one with several of them stays whole."""
    said, _, fix = text.partition("\n  fix: ")
    return (said, fix) if fix and "\n" not in fix else (text, None)


def as_printed(error: object) -> str:
    """An error's text for doit, which writes `ERROR: ` before it: on a line of its own."""
    return f"\n{error}"


class BuildError(Exception):
    """A step can't be done; str() is the whole message for the user."""

    def __init__(self, text: str, *, fix: str | None = None) -> None:
        super().__init__(with_fix(text, fix))


class GoneError(BuildError):
    """A file that was to be sent is there no more: another step may have made another one in its place."""


class AdaptersRefusedError(BuildError):
    """A server takes no adapters, whatever its version says: merged weights are what it takes."""


class EngineError(BuildError):
    """An engine can't do a training, whatever that is."""

    def __init__(self, text: str, *, fix: str | None = None, key: str = "kind") -> None:
        """`key`: what in the catalog's `engine` it is about."""
        super().__init__(text, fix=fix)
        self.key = key


class WithdrawnError(BuildError):
    """A training was not done, though nothing is wrong with it: what is wrong is said of another."""


class FaultyFileError(BuildError):
    """A file of the user's has faults; all of them are in it, in the order of their lines."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))
