"""One build at a time in one repo: the second one says who builds, and waits."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.locks import try_lock, wait_for_lock
from ollamake.state.files import LOCAL, read_object, remedy

BUILDING = "OLLAMAKE_BUILDING"  # in the environment of what a build starts: the repo that it builds


class RunLock:
    """A lock on a repo's folder itself, so that nothing that may be deleted is what keeps builds apart. It goes with the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = folder / LOCAL / "run.json"  # says who holds it, for people
        self._held: int | None = None  # descriptor

    @property
    def is_held(self) -> bool:
        """Do we hold it?"""
        return self._held is not None

    def hold(self) -> None:
        """Get the lock; where another build has it, say so and wait. Raises BuildError where that would be for ever, or nothing can be written."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            self._wait(descriptor)
            self.note.parent.mkdir(parents=True, exist_ok=True)
            owner = {"pid": os.getpid(), "command": " ".join(sys.argv[1:]), "since": time.strftime("%H:%M")}
            self.note.write_text(json.dumps(owner), encoding="utf-8")
        except OSError as error:
            os.close(descriptor)
            msg = f"{self.note.parent} can't be written: {error.strerror}"
            raise BuildError(msg, fix=f"{remedy(error)}, or build in a copy of the repo") from error
        except BaseException:  # Ctrl-C while we waited
            os.close(descriptor)
            raise
        self._held = descriptor
        os.environ[BUILDING] = str(self.folder)

    def _wait(self, descriptor: int) -> None:
        if try_lock(descriptor):
            return
        if os.environ.get(BUILDING) == str(self.folder):
            msg = "this repo is being built by the doit that has started this one"
            raise BuildError(msg, fix="name what has to be built first in the task's task_dep, instead of running doit in it")
        try:
            print(f"   {self.holder()} is building here: waiting for its end", file=sys.__stderr__, flush=True)  # doit keeps an action's own
            wait_for_lock(descriptor)
        except KeyboardInterrupt:
            sys.exit(130)

    def holder(self) -> str:
        """Who holds it, for people."""
        owner = read_object(self.note)
        if not owner:
            return "another doit"
        return f"`doit{' ' if owner.get('command') else ''}{owner.get('command')}` (process {owner.get('pid')}, since {owner.get('since')})"

    def release(self) -> None:
        """Let the next one build."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
            os.environ.pop(BUILDING, None)
