"""doit's database: the lock for what belongs in git, `.ollamake/` for what is of this machine.

doit asks and tells it by task. A step is remembered by one record, which its action returns among the task's values; what doit would note of its
file dependencies after it has run is not taken, as a file may have changed meanwhile. Tasks of the user's own are remembered as doit has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ollamake.call import current
from ollamake.digest import digest_bytes
from ollamake.errors import BuildError
from ollamake.state.digests import DECIDED, digest_cache
from ollamake.state.files import JOURNAL, LOCAL, RECEIPT
from ollamake.state.journal import Journal
from ollamake.state.lock_file import Block
from ollamake.state.memory import Memory, StateError, writing
from ollamake.state.run_lock import RunLock

OURS = "ollamake"  # the key among a task's values that holds a step's record
VALUES = "_values_:"  # doit's
LAST_SET = "deps:"  # by doit, of a task that has succeeded
RESULT = "result:"  # what doit compares for a task that has a result_dep on another
KEPT_OF_A_STEP = ("ignore:",)  # of what doit itself notes of a step


class LockBackend:
    """A backend of doit's. Nothing is read before it is asked for."""

    desc = "models.lock: text that belongs in git"
    in_a_run = False  # is doit running tasks now? Then the state is ours for as long as that takes, and a failed step is not a forgotten one

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:  # noqa: ARG002 - the names are doit's
        self.name = name
        self.path = Path(name).absolute()
        self.local = self.path.parent / LOCAL
        self.journal = Journal(self.local / JOURNAL)
        self.lock = RunLock(self.path.parent)
        self.steps: set[str] | None = None  # all that there are, as far as they are known: others are left out of the lock when it is written
        self.noted: list[Mapping[str, Any]] = []  # what has happened since, as it is in the journal
        self._memory: Memory | None = None
        if self.in_a_run:
            self.hold()

    def hold(self) -> None:
        """Have the state for ourselves, as it is now. Raises StateError."""
        if not self.lock.is_held:
            try:
                self.lock.hold()
            except BuildError as error:
                raise StateError(str(error)) from error
            self._memory = None  # another build may have written it while we waited

    @property
    def memory(self) -> Memory:
        """What is known, read once. Raises StateError."""
        if self._memory is None:
            self._memory = Memory(self.path, self.local, self.journal)
        return self._memory

    # What doit calls.

    def get(self, task: str, key: str) -> Any:
        """What doit knows of a task under this key, or None."""
        memory = self.memory
        if not memory.is_step(task) or key in KEPT_OF_A_STEP:
            return memory.tasks.get(task, {}).get(key)
        if key == VALUES:
            return {OURS: memory.known(task)}
        if key == RESULT:
            return memory.known(task)["block"]["targets"]
        return None if key.endswith(":") else DECIDED

    def set(self, task: str, key: str, value: Any) -> None:
        """Remember what doit tells of a task; a finished one is on the disk when this returns. Raises StateError."""
        self.hold()
        memory = self.memory
        if key == VALUES and isinstance(value, dict) and OURS in value:
            told = value[OURS]
            digest_cache().learn(told.get("learnt", {}))
            for also in (*told.get("also", ()), {"step": told.get("step", task), "place": told.get("place"), "block": told["block"]}):
                self._note(also)
        elif not memory.is_step(task) or key in KEPT_OF_A_STEP:
            facts = memory.tasks.setdefault(task, {})
            facts[key] = value
            if key in KEPT_OF_A_STEP or (key == LAST_SET and _says_something(facts)):
                self._note({"task": task, "facts": facts})

    def in_(self, task: str) -> bool:
        """Is anything known of this task?"""
        return self.memory.is_step(task) or task in self.memory.tasks

    def remove(self, task: str) -> None:
        """Forget a task. A step that failed keeps the record of what it was last done from: that is still so."""
        self.hold()
        if not self.in_(task) or (self.in_a_run and self.memory.is_step(task)):
            return
        self._unlink_receipt(task)
        self._note({"forgotten": task})

    def remove_all(self) -> None:
        """Forget everything."""
        self.hold()
        for step in self.memory.blocks:
            self._unlink_receipt(step)
        self._note({"forgotten": None})

    def dump(self) -> None:
        """Fold what has happened into the files. Raises StateError."""
        try:
            if self._memory is not None and self.lock.is_held:
                self._fold()
        finally:
            if not self.in_a_run:  # which lets go of it when all of its files are written
                self.lock.release()

    # What ollamake asks beyond that.

    def record(self, step: str, place: str | None) -> Block | None:
        """The block of a step; `place`: for steps that are remembered for each server, or for this machine, and not in the lock."""
        return (self.memory.blocks if place is None else self.memory.places.get(place, {})).get(step)

    @property
    def lock_digest(self) -> str | None:
        """The digest of the lock as it was read or last written; None where there is none."""
        return None if self.memory.text is None else digest_bytes(self.memory.text.encode())

    def know(self, steps: Iterable[str]) -> None:
        """These steps are in the catalog. What was remembered of others goes when the lock is next written. Raises StateError where it can't be read."""
        self.memory  # noqa: B018 - read now: a damaged lock is said before the first step runs
        self.steps = {*(self.steps or ()), *steps}

    def _unlink_receipt(self, step: str) -> None:
        """An adapter's own receipt would bring the record back."""
        for target in self.memory.blocks.get(step, {}).get("targets", ()):
            (self.path.parent / target).with_name(RECEIPT).unlink(missing_ok=True)

    def _note(self, entry: Mapping[str, Any]) -> None:
        self.memory.take(entry)
        self.noted.append(entry)
        with writing(self.journal.path):
            self.journal.append(dict(entry))

    def _fold(self) -> None:
        # Read anew: somebody may have pulled another lock meanwhile, or have deleted the journal with all that is local.
        self._memory = memory = Memory(self.path, self.local, self.journal)
        for entry in self.noted:
            memory.take(entry)
        if self.in_a_run and self.steps is not None and not current().seals:  # a seal answers for steps that it does not name
            memory.leave_out(self.steps)
        if memory.dirty:
            memory.write()
        self.journal.clear()


def _says_something(facts: Mapping[str, Any]) -> bool:
    """Is there anything to remember of a task? Of a group of tasks there is not."""
    return any(value for key, value in facts.items() if key != "checker:")


@contextmanager
def as_run() -> Iterator[None]:
    """Within this, a backend that is made is one of a run."""
    LockBackend.in_a_run = True
    try:
        yield
    finally:
        LockBackend.in_a_run = False
