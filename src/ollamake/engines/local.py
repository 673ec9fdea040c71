"""A training on this machine: its program behind a guard, its words in a log, its events in a file and on the screen."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ollamake.engines.hearing import Hearing, facts_of, write_files
from ollamake.engines.overheard import Overheard
from ollamake.engines.port import Ended
from ollamake.engines.this_machine import Slots, training_slots
from ollamake.errors import BuildError
from ollamake.moments import seconds_of
from ollamake.progress import TrainingProgress
from ollamake.trainers import guard
from ollamake.trainers.port import Command, Event, Job, Trainer

BY_PATH = "mend train.command in the catalog; paths are relative to the folder of dodo.py"
LAUNCHED = (
    40.0  # seconds that a program has to end which runs elsewhere: srun waits 32 for its job. Fewer than jobs.ORPHAN, which the next build waits
)


class Local:
    """Trains on this machine: one training at a time on each of its GPUs, and one on its CPU."""

    name = "local"
    is_here = True

    @contextmanager
    def place(self, name: str, gpus: int, cache: Path) -> Iterator[_Here]:
        """GPUs, or the CPU, whose locks lie in `cache`."""
        with training_slots(gpus, cache, name) as slots:
            yield _Here(slots)


class _Here:
    """What a training on this machine has for itself."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.gpus = slots.gpus

    def run(self, program: Trainer, job: Job, *, held: int, log: Path, events: Path) -> Ended:
        """Run the job in its folder."""
        return run_here(program, job, self.slots, held=held, log=log, events=events)

    def forget(self) -> None:
        """All that there is of a job is in its folder."""


def run_here(program: Trainer, job: Job, slots: Slots, *, held: int, log: Path, events: Path, launch: Sequence[str] = ()) -> Ended:
    """Run the job until its program ends, and show its progress. It is ended with this process. Raises BuildError where it can't be started.

    `held`: descriptor of the job's lock, which the program inherits. `log` and `events` are written anew, or added to where the job goes on.
    `launch`: words before the program, which run it elsewhere. What these say themselves is shown until the program tells something.
    """
    command = program.plan(job)
    write_files(command, job.folder)
    how = "a" if job.checkpoint is not None else "w"
    before = seconds_in(events) if job.checkpoint is not None else 0.0
    with log.open(how, encoding="utf-8") as said, events.open(how, encoding="utf-8") as told, TrainingProgress(job.name) as progress:
        if told.tell() and not events.read_bytes().endswith(b"\n"):  # the build was killed in the middle of a line
            told.write("\n")

        def tell(event: Event) -> None:
            told.write(json.dumps(facts_of(event)) + "\n")
            told.flush()
            progress.show(event)

        overheard = Overheard(launch, log, lambda line: progress.show(Event(kind="note", reason=line)))
        hearing = Hearing(program, said, tell, before=overheard.end)
        with (
            overheard.shown(),
            _started(command, job.folder, said, (*slots.files, held), slots, launch=launch) as process,
        ):
            try:
                code = hearing.until_end(process, command, job.folder)
            finally:
                _end(process, LAUNCHED if launch else guard.PATIENCE)
    return Ended(code=code, steps=hearing.steps, failure=hearing.failure, is_heard=hearing.last is not None, seconds_before=before)


def run_guarded(argv: Sequence[str], log: IO[str], environment: Mapping[str, str]) -> int:
    """Run a program that tells nothing, its words in a log, and return its exit code. It is ended with this process."""
    process = subprocess.Popen(
        _guarded(argv), stdin=subprocess.PIPE, stdout=log, stderr=log, env={**os.environ, **environment}, text=True, start_new_session=True
    )
    try:
        return process.wait()
    finally:
        _end(process, guard.PATIENCE)


def _guarded(argv: Sequence[str]) -> list[str]:
    """What runs this program behind a guard, which ends it when its own standard input closes."""
    return [sys.executable, "-I", "-S", guard.__file__, *argv]


def seconds_in(events: Path) -> float:
    """How long the programs ran that wrote these events, from the first to the last of each; 0 where nobody knows."""
    seconds, last, kind = 0.0, None, ""
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    for line in lines:
        try:
            told = json.loads(line)
            now, told_kind = seconds_of(told["time"]), told["event"]
        except (ValueError, KeyError, TypeError):  # cut off, or edited
            continue
        begins = told_kind in {"loading", "start"} and kind != "loading"  # of another program
        seconds += 0 if last is None or begins else max(0, now - last)
        last, kind = now, told_kind
    return seconds


def _started(
    command: Command, folder: Path, log: IO[str], inherited: tuple[int, ...], slots: Slots, *, launch: Sequence[str]
) -> subprocess.Popen[str]:
    """The trainer, behind a guard that ends it when this process is gone or closes its standard input."""
    if not launch:
        check_program_file(command)
    return subprocess.Popen(
        _guarded((*launch, *command.argv)),
        cwd=folder if command.in_job else None,
        env={
            **os.environ,
            **modules(),
            **slots.environment,
            **command.environment,
            guard.INHERITED: " ".join(map(str, inherited)),
            **({guard.PATIENT: str(LAUNCHED)} if launch else {}),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us
        pass_fds=inherited,
    )


def check_program_file(command: Command, fix: str = BY_PATH) -> None:
    """Raise BuildError where the program is not there, or may not be run; `fix`: what to do with one that the catalog names."""
    program = command.argv[0]
    if shutil.which(program) is None:
        msg = f"the trainer can't be started: {program}: {'Permission denied' if os.path.exists(program) else 'No such file or directory'}"
        raise BuildError(msg, fix="mend train.env in the catalog" if command.in_job else fix)


def modules() -> dict[str, str]:
    """Where this process finds modules, for one that runs in another folder."""
    places = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, places.split(os.pathsep)))} if places else {}


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """End the trainer and what it has started, if it still runs: this build is being ended."""
    assert process.stdin is not None  # it is a pipe
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3 * patience)
