"""What words that launch a program say of themselves, in the log of a training: `srun: job 7 queued and waiting for resources`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOOK = 0.2  # seconds between two looks at the log


def speaks_as(launch: Sequence[str]) -> str:
    """How a line begins that is said by what launches a program, and not by the program."""
    return f"{Path(launch[0]).name}: "


class Overheard:
    """Their lines, as they come into the log, until the program itself tells something."""

    def __init__(self, launch: Sequence[str], log: Path, show: Callable[[str], None]) -> None:
        self.launch, self.log, self.show = launch, log, show
        self.at = log.stat().st_size
        self.ended = threading.Event()
        self._one = threading.Lock()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show them while the block runs."""
        if not self.launch:
            yield
            return
        listener = threading.Thread(target=self._listen, daemon=True)
        listener.start()
        try:
            yield
        finally:
            self.end()
            listener.join()

    def end(self) -> None:
        """The program tells something: what is there before is shown, and no more."""
        if self.launch and not self.ended.is_set():
            self._look()
            self.ended.set()

    def _listen(self) -> None:
        while not self.ended.wait(LOOK):
            self._look()

    def _look(self) -> None:
        with self._one:
            if self.ended.is_set():
                return
            with self.log.open("rb") as file:
                file.seek(self.at)
                whole, newline, _ = file.read().rpartition(b"\n")
            self.at += len(whole) + len(newline)
            for line in whole.decode(errors="replace").split("\n"):
                if line.startswith(speaks_as(self.launch)):
                    self.show(line.strip())
