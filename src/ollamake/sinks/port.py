"""What a sink is to ollamake: something that is told of trainings. Found by the entry point group `ollamake.sinks`; the built-in ones come by the same door.

A sink runs in a process of its own. It may be slow, fail or hang: the training goes on as if there were none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from ollamake.catalog.outside import SinkPlace
from ollamake.errors import BuildError
from ollamake.spelling import nearest

GROUP = "ollamake.sinks"
FINISHED, FAILED, KILLED = "finished", "failed", "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A training, as a sink is told of it."""

    name: str  # of the model
    params: Mapping[str, Any]  # recipe and data, as JSON values, by the catalog's keys
    tags: Mapping[str, str]  # digests of text and base, the repo's commit
    folder: str  # for files of the sink's own
    id: str | None = None  # as `begin` returned it: the training, or what there is to be said of it, goes on in that run


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a training has told at one moment."""

    step: int
    time: float  # seconds since 1970
    values: Mapping[str, float]  # loss, learning_rate, tokens_per_second, holdout_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a training ended."""

    state: str  # FINISHED, FAILED or KILLED
    reason: str = ""  # why it failed
    facts: Mapping[str, Any] = field(default_factory=dict)  # seconds, adapter digest


class Sink(Protocol):
    """One run of one sink: made with what the catalog says of it, used by one thread. Any method may raise what it likes."""

    def __init__(self, options: Mapping[str, Any]) -> None: ...

    def begin(self, run: TrainingRun) -> str:
        """Begin a run, or go on with that of `run.id`. Returns the id by which it can be gone on with. The library is imported here, not before."""

    def points(self, points: Sequence[Point]) -> None:
        """Take these, in their order. The same may come twice, where taking them has failed."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Take facts that were found out later: what the model's tests came to."""

    def end(self, outcome: Outcome | None) -> None:
        """The run has ended; None: it had ended before, and there was only more to be said of it."""


@cache
def sink_names() -> tuple[str, ...]:
    """The names of the sinks that are installed."""
    return tuple(sorted(entry_points(group=GROUP).names))


def refuse_unknown_sink(place: SinkPlace) -> None:
    """Raise BuildError where no package that is installed provides this sink."""
    if place.name not in sink_names():
        msg = f"{place.mark}: sinks: unknown sink {place.name!r}"
        raise BuildError(msg, fix=f"{nearest(place.name, sink_names())}; or install a package that provides {place.name!r}")


def sink(name: str, options: Mapping[str, Any]) -> Sink:
    """A sink of this name. Raises whatever its module raises when it is imported."""
    (entry,) = entry_points(group=GROUP, name=name)
    made: Sink = entry.load()(options)
    return made
