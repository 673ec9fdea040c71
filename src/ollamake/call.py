"""What one call of doit is about, told by its command and read by the task creator and the reporter. Imported at every start: standard library alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ollamake.graph import Step
    from ollamake.run import Run
    from ollamake.seal import Seal


@dataclass
class Call:
    """One call of doit."""

    is_whole: bool = False  # is everything asked for, so that a seal may answer for a whole catalog?
    typed: tuple[str, ...] = ()  # the words behind `doit`
    only_looks: bool = False  # does it run nothing, so that files may be missing?
    loads: bool = True  # are catalogs read when dodo.py names them? Else the command reads what it wants of them
    always: bool = False  # are steps to be done however fresh they are?
    trains: bool = True  # may anything be trained? What a cache has is taken in any case
    pushes: bool = False  # may models be published? They are by no other call
    engine: str | None = None  # where all trainings run, whatever the catalog says
    seals: dict[str, Seal] = field(default_factory=dict)  # catalog -> the seal that has answered for it
    named: list[str] = field(default_factory=list)  # catalogs that were not read
    catalogs: dict[str, tuple[Run, tuple[Step, ...]]] = field(default_factory=dict)  # catalog -> its run and its steps, where its tasks were made

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all catalogs."""
        return tuple(step for _, steps in self.catalogs.values() for step in steps)


_now = Call()


def current() -> Call:
    """The call that this process does."""
    return _now


def groups(catalog: str, stages: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The groups of tasks, one a stage, with what it is for. A catalog that is not the first finds them there."""
    if not {*_now.catalogs, *_now.seals} - {catalog}:
        for stage, purpose in stages.items():
            yield {"basename": stage, "name": None, "doc": purpose}


def begin(call: Call) -> None:
    """A call begins."""
    global _now  # noqa: PLW0603 - doit's task creators take no argument
    _now = call
