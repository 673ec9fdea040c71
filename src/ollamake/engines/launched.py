"""Trainings that other words run, `train.launch`: those of a cluster's queue, which has its machines and this one's files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ollamake.engines.local import run_here
from ollamake.engines.overheard import speaks_as
from ollamake.engines.port import Ended
from ollamake.engines.this_machine import Slots
from ollamake.trainers.port import Job, Trainer

SIGNALS = range(129, 193)  # exit codes by which what launches a program tells that a signal has ended it, as a shell does
NO_MEMORY = 253  # srun's


class Launched:
    """Trains where the words lead: as many trainings at once as there are, as their queue decides. This machine's GPUs are not asked for."""

    name = "launched"
    is_here = True  # its packages and its disk are those of this machine

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    @contextmanager
    def place(self, name: str, gpus: int, cache: Path) -> Iterator[_There]:  # noqa: ARG002 - nobody has to wait
        """As many GPUs as the catalog says that there are."""
        yield _There(self.words, gpus)


class _There:
    """What a training has for itself."""

    def __init__(self, words: Sequence[str], gpus: int) -> None:
        first, *more = words
        # Programs run in a job's folder, and the catalog's paths are the repo's. One that is looked for on PATH has no folder.
        self.words = (str(Path(first).absolute()) if Path(first).name != first else first, *more)
        self.gpus = gpus

    def run(self, program: Trainer, job: Job, *, held: int, log: Path, events: Path) -> Ended:
        """Run the job in its folder, which is there, too."""
        slots = Slots(files=(), environment={}, gpus=self.gpus)
        return run_here(program, job, slots, held=held, log=log, events=events, launch=self.words)

    def forget(self) -> None:
        """All that there is of a job is in its folder."""


def lacking(words: Sequence[str]) -> str | None:
    """The program that launches trainings, where it is not on this machine."""
    return words[0] if words and shutil.which(words[0]) is None else None


def said_alone(words: Sequence[str], lines: str) -> bool:
    """Are these lines of a log, of which there are some, all of what launches the program?"""
    said = [line.strip() for line in lines.splitlines()]
    return bool(words and said) and all(line.startswith(speaks_as(words)) for line in said)
