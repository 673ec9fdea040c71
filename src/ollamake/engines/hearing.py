"""What is done with each line that a training's program writes, and how a file is heard to which it adds lines."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ollamake.moments import moment
from ollamake.trainers.port import Command, Event, Trainer

LONGEST = 1 << 16  # characters of a line that are read at once: not all programs write lines
LOOK = 0.2  # seconds between two looks at a file that is followed


class Hearing:
    """Tells the events among the lines of a program; the others go into its log."""

    def __init__(self, program: Trainer, log: IO[str], tell: Callable[[Event], None], *, before: Callable[[], None] | None = None) -> None:
        """`before` is called when the program tells something for the first time, before `tell` is."""
        self.program, self.log, self.tell, self.before = program, log, tell, before
        self.last: Event | None = None
        self.steps = 0
        self._one = threading.Lock()  # lines come from a pipe and from a file

    def hear(self, line: str) -> None:
        """Take a line, with its end."""
        with self._one:
            event = self.program.progress(line)
            if event is None:
                self.log.write(line)
                self.log.flush()
                return
            if self.last is None and self.before is not None:
                self.before()
            self.last = event
            self.steps = max(self.steps, event.step)
            self.tell(event)

    def until_end(self, process: subprocess.Popen[str], command: Command, folder: Path) -> int:
        """Take all that the program of a job says, on its standard output and in the file that it follows. Returns its exit code."""
        assert process.stdout is not None  # it is a pipe
        read = process.stdout.readline
        with followed(folder / command.follows if command.follows else None, self.hear):
            for line in iter(lambda: read(LONGEST), ""):
                self.hear(line)
            return process.wait()

    @property
    def failure(self) -> Event | None:
        """What the program says is to be mended, if that was its last word."""
        return self.last if self.last is not None and self.last.kind == "failed" else None


def write_files(command: Command, folder: Path) -> None:
    """Write what a program reads into the folder of its job."""
    for name, content in command.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def facts_of(event: Event) -> dict[str, Any]:
    """What the event says, and when: a line of events.jsonl."""
    said = {name: value for name, value in asdict(event).items() if value or (name == "loss" and value is not None)}
    return {"time": moment(), "event": said.pop("kind"), **said}


@contextmanager
def followed(path: Path | None, hear: Callable[[str], None]) -> Iterator[None]:
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
