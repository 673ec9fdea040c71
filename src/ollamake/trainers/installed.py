"""What is installed as a trainer, by the entry points of packages."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, distribution, entry_points

GROUP = "ollamake.trainers"  # of entry points


@cache
def _own() -> EntryPoints:
    return distribution("ollamake").entry_points.select(group=GROUP)


@cache
def installed() -> EntryPoints:
    """What is installed as a trainer. All packages are looked through for it, which takes longer than a run that has nothing to do."""
    return entry_points(group=GROUP)


def entry_of(name: str) -> EntryPoint:
    """What provides the trainer of this name. Raises ValueError where nothing does, or several packages do."""
    (entry,) = (_own() if name in _own().names else installed()).select(name=name)
    return entry


class TrainerNames(Collection[str]):
    """The names of the trainers that are installed; whether one of ollamake's own is among them is known without a look at others' packages."""

    def __contains__(self, name: object) -> bool:
        return name in _own().names or name in installed().names

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(installed().names))

    def __len__(self) -> int:
        return len(installed().names)
