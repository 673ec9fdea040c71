"""One build at a time in one repo: the second one says who builds, and waits."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from ollamake.errors import BuildError
from ollamake.state.files import LOCAL, read_object, try_lock, wait_for_lock


class RunLock:
    """A lock on a repo's state. It goes with the process that holds it, however that ends."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCAL / "run.lock"
        self._file: IO[Any] | None = None

    @property
    def is_held(self) -> bool:
        """Do we hold it?"""
        return self._file is not None

    def hold(self) -> None:
        """Get the lock; where another build has it, say so and wait. Raises BuildError where there can be no lock."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            msg = f"{self.path.parent} can't be written: {error.strerror}"
            raise BuildError(msg, fix="give yourself the right to, or build in a copy of the repo") from error
        try:
            if not try_lock(file):
                print(f"   {self.holder()} is building here: waiting for its end", file=sys.stderr, flush=True)
                wait_for_lock(file)
            file.truncate(0)
            json.dump({"pid": os.getpid(), "command": " ".join(sys.argv[1:]), "since": time.strftime("%H:%M")}, file)
            file.flush()
        except BaseException:
            file.close()
            raise
        self._file = file

    def holder(self) -> str:
        """Who holds it, for people."""
        owner = read_object(self.path)
        if not owner:
            return "another doit"
        return f"`doit{' ' if owner.get('command') else ''}{owner.get('command')}` (process {owner.get('pid')}, since {owner.get('since')})"

    def release(self) -> None:
        """Let the next one build."""
        if self._file is not None:
            self._file.close()
            self._file = None
