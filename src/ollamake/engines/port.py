"""What an engine is to ollamake: where a training runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ollamake.errors import BuildError
from ollamake.trainers.port import Event, Job, Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a training's program ended."""

    code: int  # of its exit; negative: by a signal
    steps: int  # the last one that it told of
    failure: Event | None  # what it says is to be mended
    is_heard: bool = True  # has it told anything at all?
    seconds_before: float = 0.0  # that builds before this one have spent on the job
    where: str = ""  # another machine that has trained: engine and address
    found: Path | BuildError | None = None  # the result, or why there is none; None: it is where the trainer finds it in the job's folder


class Place(Protocol):
    """What one training has for itself, wherever that is."""

    gpus: int  # how many; 0: it runs on the CPU

    def run(self, program: Trainer, job: Job, *, held: int, log: Path, events: Path) -> Ended:
        """Run the job until its program ends, and show its progress; what it makes is in the job's folder then. It is ended with this process.

        `held`: descriptor of the job's lock, which a program on this machine inherits. `log` and `events` are written anew, or added to where the job
        goes on. Raises BuildError where it can't be run.
        """

    def forget(self) -> None:
        """Remove what is kept elsewhere of the job that was run, to go on from: nobody will."""


class Engine(Protocol):
    """Where trainings run."""

    name: str  # as the catalog says it: one of catalog.places.ENGINES
    is_here: bool  # on this machine, whose packages, GPUs and disk it needs?

    def place(self, name: str, gpus: int, cache: Path) -> AbstractContextManager[Place]:
        """What the training of this model has for itself: so many GPUs, where there are any. Waits for it, where others have it. Raises BuildError.

        `cache`: the folder of what is kept between builds.
        """
