"""A training on this machine: its program behind a guard, its words in a log, its events in a file and on the screen."""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ollamake.engines.overheard import Overheard
from ollamake.engines.port import Ended
from ollamake.engines.this_machine import Slots, training_slots
from ollamake.errors import BuildError
from ollamake.progress import TrainingProgress
from ollamake.trainers import guard
from ollamake.trainers.port import Command, Event, Job, Trainer

LONGEST = 1 << 16  # characters of a line that are read at once: not all programs write lines
TIME = "%Y-%m-%dT%H:%M:%SZ"
LOOK = 0.2  # seconds between two looks at a file that is followed
LAUNCHED = 25.0  # seconds that a program has to end which runs elsewhere; fewer than jobs.ORPHAN, which the next build waits


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


def run_here(program: Trainer, job: Job, slots: Slots, *, held: int, log: Path, events: Path, launch: Sequence[str] = ()) -> Ended:
    """Run the job until its program ends, and show its progress. It is ended with this process. Raises BuildError where it can't be started.

    `held`: descriptor of the job's lock, which the program inherits. `log` and `events` are written anew, or added to where the job goes on.
    `launch`: words before the program, which run it elsewhere. What these say themselves is shown until the program tells something.
    """
    command = program.plan(job)
    for name, content in command.files.items():
        (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (job.folder / name).write_text(content, encoding="utf-8")
    how = "a" if job.checkpoint is not None else "w"
    before = _seconds_in(events) if job.checkpoint is not None else 0.0
    with log.open(how, encoding="utf-8") as said, events.open(how, encoding="utf-8") as told, TrainingProgress(job.name) as progress:
        if told.tell() and not events.read_bytes().endswith(b"\n"):  # the build was killed in the middle of a line
            told.write("\n")
        overheard = Overheard(launch, log, lambda line: progress.show(Event(kind="note", reason=line)))
        hearing = _Hearing(program, said, told, progress, before=overheard.end)
        with (
            overheard.shown(),
            _started(command, job.folder, said, (*slots.files, held), slots, launch=launch) as process,
        ):
            assert process.stdout is not None  # it is a pipe
            read = process.stdout.readline
            try:
                with _followed(job.folder / command.follows if command.follows else None, hearing.hear):
                    for line in iter(lambda: read(LONGEST), ""):
                        hearing.hear(line)
                    code = process.wait()
            finally:
                _end(process, LAUNCHED if launch else guard.PATIENCE)
    failure = hearing.last if hearing.last is not None and hearing.last.kind == "failed" else None
    return Ended(code=code, steps=hearing.steps, failure=failure, seconds_before=before)


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


class _Hearing:
    """What is done with each line that a program writes."""

    def __init__(self, program: Trainer, log: IO[str], events: IO[str], progress: TrainingProgress, before: Callable[[], None]) -> None:
        self.program, self.log, self.events, self.progress = program, log, events, progress
        self.before = before  # the first event
        self.last: Event | None = None
        self.steps = 0
        self._one = threading.Lock()  # lines come from a pipe and from a file

    def hear(self, line: str) -> None:
        with self._one:
            event = self.program.progress(line)
            if event is None:
                self.log.write(line)
                self.log.flush()
                return
            if self.last is None:
                self.before()
            self.last = event
            self.steps = max(self.steps, event.step)
            self.events.write(json.dumps(_facts(event)) + "\n")
            self.events.flush()
            self.progress.show(event)


def _facts(event: Event) -> dict[str, Any]:
    """What the event says, and when."""
    said = {name: value for name, value in asdict(event).items() if value or (name == "loss" and value is not None)}
    return {"time": time.strftime(TIME, time.gmtime()), "event": said.pop("kind"), **said}


def _seconds_in(events: Path) -> float:
    """How long the programs ran that wrote these events, from the first to the last of each; 0 where nobody knows."""
    seconds, last, kind = 0.0, None, ""
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    for line in lines:
        try:
            told = json.loads(line)
            now, told_kind = calendar.timegm(time.strptime(told["time"], TIME)), told["event"]
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
    argv = (*launch, *command.argv)
    program = argv[0]
    if not launch and shutil.which(program) is None:
        msg = f"the trainer can't be started: {program}: {'Permission denied' if os.path.exists(program) else 'No such file or directory'}"
        fix = "mend train.env in the catalog" if command.in_job else "mend train.command in the catalog; paths are relative to the folder of dodo.py"
        raise BuildError(msg, fix=fix)
    return subprocess.Popen(
        _guarded(argv),
        cwd=folder if command.in_job else None,
        env={
            **os.environ,
            **_modules(),
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


def _modules() -> dict[str, str]:
    """Where this process finds modules, for one that runs in another folder."""
    places = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, places.split(os.pathsep)))} if places else {}


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """End the trainer and what it has started, if it still runs: this build is being ended."""
    assert process.stdin is not None  # it is a pipe
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3 * patience)


@contextmanager
def _followed(path: Path | None, hear: Callable[[str], None]) -> Iterator[None]:
    """Hear the whole lines that are added to a file, until the block ends."""
    if path is None:
        yield
        return
    ended = threading.Event()
    begin = path.stat().st_size if path.exists() else 0  # what is there was told before
    follower = threading.Thread(target=_follow, args=(path, begin, hear, ended), daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _follow(path: Path, begin: int, hear: Callable[[str], None], ended: threading.Event) -> None:
    rest = b""
    while True:
        is_last = ended.wait(LOOK)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(begin)
            added = file.read()
            begin += len(added)
            *lines, rest = (rest + added).split(b"\n")
            for line in lines:
                hear(line.decode(errors="replace") + "\n")
        if is_last:
            return
