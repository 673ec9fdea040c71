"""What one call of doit builds, told by its command and read by the task creator and the reporter. Imported at every start: standard library alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollamake.run import Run
    from ollamake.state.seal import Seal


@dataclass
class Build:
    """One call of doit."""

    is_whole: bool = False  # is everything asked for, so that a seal may answer for a whole catalog?
    asked: tuple[str, ...] = ()  # what was typed after `doit`
    only_looks: bool = False  # does it run nothing, so that files may be missing?
    seals: dict[str, Seal] = field(default_factory=dict)  # catalog -> the seal that has answered for it
    runs: dict[str, Run] = field(default_factory=dict)  # catalog -> its run, where its tasks were made
    steps: dict[str, list[Any]] = field(default_factory=dict)  # catalog -> its steps, likewise


_now = Build()


def current() -> Build:
    """The build of this call."""
    return _now


def groups(catalog: str, stages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The groups of tasks, one a stage, with what it is for. A catalog that is not the first finds them there."""
    if not {*_now.runs, *_now.seals} - {catalog}:
        for stage, purpose in stages.items():
            yield {"basename": stage, "name": None, "doc": purpose}


def begin(build: Build) -> Build:
    """Make this the build of the call that begins."""
    global _now  # noqa: PLW0603 - doit's task creators take no argument
    _now = build
    return build
