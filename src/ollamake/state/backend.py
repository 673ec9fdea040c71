"""doit's database: the lock for what belongs in git, `.ollamake/` for what is of this machine.

doit asks and tells it by task. A step is remembered by one record, which its action returns among the task's values; what doit would note of its
file dependencies after it has run is not taken, as a file may have changed meanwhile. Tasks of the user's own are remembered as doit has them.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile, InvalidTask

from ollamake.digest import digest_bytes
from ollamake.errors import BuildError
from ollamake.state.digests import DECIDED, digest_cache
from ollamake.state.files import LOCAL, RECEIPT, read_object, write_whole
from ollamake.state.journal import Journal
from ollamake.state.lock_file import Block, is_block, lock_text, read_lock
from ollamake.state.run_lock import RunLock

OURS = "ollamake"  # the key among a task's values that holds a step's record
VALUES = "_values_:"  # doit's
LAST_SET = "deps:"  # by doit, of a task that has succeeded
KEPT_OF_A_STEP = ("ignore:",)  # of what doit itself notes of a step


def as_printed(error: object) -> str:
    """An error's text for doit, which writes `ERROR: ` before it: on a line of its own."""
    return f"\n{error}"


class StateError(InvalidTask, InvalidDodoFile):
    """The memory can't be read or written; doit prints it as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(as_printed(text))


class LockBackend:
    """A backend of doit's. Nothing is read before it is asked for."""

    desc = "models.lock: text that belongs in git"
    in_a_run = False  # is doit running tasks now? Then the state is ours for as long as that takes, and a failed step is not a forgotten one

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:  # noqa: ARG002 - the names are doit's
        self.name = name
        self.path = Path(name).absolute()
        self.local = self.path.parent / LOCAL
        self.journal = Journal(self.local / "journal.jsonl")
        self.lock = RunLock(self.path.parent)
        self.steps: set[str] | None = None  # all that there are, as far as they are known: others are left out of the lock when it is written
        self.done: set[str] = set()  # steps that were done since
        self._state: _State | None = None
        if self.in_a_run:
            self.hold()

    def hold(self) -> None:
        """Have the state for ourselves, as it is now. Raises StateError."""
        if not self.lock.is_held:
            try:
                self.lock.hold()
            except BuildError as error:
                raise StateError(str(error)) from error
            self._state = None  # another build may have written it while we waited

    @property
    def state(self) -> _State:
        """What is known, read once. Raises StateError."""
        if self._state is None:
            self._state = _State.read(self.path, self.local, self.journal)
        return self._state

    # What doit calls.

    def get(self, task: str, key: str) -> Any:
        """What doit knows of a task under this key, or None."""
        state = self.state
        if not state.is_step(task) or key in KEPT_OF_A_STEP:
            return state.tasks.get(task, {}).get(key)
        if key == VALUES:
            return {OURS: next(known[task] for known in (state.blocks, *state.places.values()) if task in known)}
        return None if key.endswith(":") else DECIDED

    def set(self, task: str, key: str, value: Any) -> None:
        """Remember what doit tells of a task; a finished one is on the disk when this returns. Raises StateError."""
        self.hold()
        state = self.state
        if key == VALUES and isinstance(value, dict) and OURS in value:
            told = value[OURS]
            digest_cache().learn(told.get("learnt", {}))
            self.done.add(task)
            self._note({"step": task, "place": told.get("place"), "block": told["block"]})
        elif not state.is_step(task) or key in KEPT_OF_A_STEP:
            state.tasks.setdefault(task, {})[key] = value
            state.dirty = True
            if key == LAST_SET:
                self._note({"task": task, "facts": state.tasks[task]})

    def in_(self, task: str) -> bool:
        """Is anything known of this task?"""
        return self.state.is_step(task) or task in self.state.tasks

    def remove(self, task: str) -> None:
        """Forget a task. A step that failed keeps the record of what it was last done from: that is still so."""
        self.hold()
        if self.in_a_run and self.state.is_step(task):
            return
        # An adapter's own receipt would bring the record back.
        for target in (self.state.blocks.get(task) or {"targets": {}})["targets"]:
            (self.path.parent / target).with_name(RECEIPT).unlink(missing_ok=True)
        self._note({"forgotten": task})

    def remove_all(self) -> None:
        """Forget everything."""
        for step in [*self.state.blocks]:
            self.remove(step)
        self.hold()
        self._note({"forgotten": None})

    def dump(self) -> None:
        """Fold what has happened into the files, and let the next build have them. Raises StateError."""
        try:
            if self._state is not None and self.lock.is_held:
                self._fold(self._state)
        finally:
            self.lock.release()

    # What ollamake asks beyond that.

    def record(self, step: str, place: str | None) -> Block | None:
        """The block of a step; `place`: for steps that are remembered for each server, or for this machine, and not in the lock."""
        return (self.state.blocks if place is None else self.state.places.get(place, {})).get(step)

    @property
    def lock_digest(self) -> str | None:
        """The digest of the lock as it was read or last written; None where there is none."""
        return None if self.state.text is None else digest_bytes(self.state.text.encode())

    def know(self, steps: Iterable[str]) -> None:
        """These steps are in the catalog. What was remembered of others goes when the lock is next written."""
        self.steps = {*(self.steps or ()), *steps}

    def _note(self, entry: Mapping[str, Any]) -> None:
        self.state.take(entry)
        with _writing(self.journal.path):
            self.journal.append(dict(entry))

    def _fold(self, state: _State) -> None:
        if self.in_a_run and self.steps is not None:
            state.leave_out(self.steps)
        if not state.dirty:
            return
        with _writing(self.path):
            text = lock_text(state.blocks)
            if text != state.text and (state.blocks or state.text is not None):
                write_whole(self.path, text, durable=True)
        with _writing(self.local):
            for place, known in state.places.items():
                write_whole(self.local / "records" / f"{place}.json", _json(known), durable=True)
            write_whole(self.local / "tasks.json", _json(state.tasks), durable=True)
            self.journal.clear()
        state.text, state.dirty = text, False


class _State:
    def __init__(self, text: str | None, blocks: dict[str, Block], places: dict[str, dict[str, Block]], tasks: dict[str, dict[str, Any]]) -> None:
        self.text = text  # of the lock, as it is on the disk
        self.blocks = blocks
        self.places = places
        self.tasks = tasks  # of the user's own
        self.dirty = False  # is there anything to fold?

    @classmethod
    def read(cls, path: Path, local: Path, journal: Journal) -> _State:
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else None
            blocks = {} if text is None else read_lock(text, path.name)
            places = {file.stem: _blocks_in(file) for file in sorted((local / "records").glob("*.json"))}
            state = cls(text, blocks, places, read_object(local / "tasks.json"))
            for entry in journal.entries():
                state.take(entry)
        except BuildError as error:
            raise StateError(str(error)) from error
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path.name} can't be read: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}"
            raise StateError(msg) from error
        return state

    def is_step(self, task: str) -> bool:
        return task in self.blocks or any(task in known for known in self.places.values())

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of the journal over."""
        self.dirty = True
        if "step" in entry:
            known = self.blocks if entry.get("place") is None else self.places.setdefault(entry["place"], {})
            known[entry["step"]] = entry["block"]
        elif "task" in entry:
            self.tasks[entry["task"]] = entry["facts"]
        elif "forgotten" in entry:
            for known in (self.blocks, *self.places.values(), self.tasks):
                if entry["forgotten"] is None:
                    known.clear()
                else:
                    known.pop(entry["forgotten"], None)

    def leave_out(self, steps: set[str]) -> None:
        """Drop what is remembered of steps that are not among these."""
        for known in (self.blocks, *self.places.values()):
            gone = known.keys() - steps
            self.dirty = self.dirty or bool(gone)
            for step in gone:
                del known[step]


def _blocks_in(path: Path) -> dict[str, Block]:
    return {step: block for step, block in read_object(path).items() if is_block(block)}


@contextmanager
def as_run() -> Iterator[None]:
    """Within this, a backend that is made is one of a run."""
    LockBackend.in_a_run = True
    try:
        yield
    finally:
        LockBackend.in_a_run = False


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        fix = "make room on the disk" if full else "give yourself the right to write there"
        msg = f"{path.name} can't be written: {error.strerror}\n  fix: {fix}, then run `doit` again: what was finished before stays finished"
        raise StateError(msg) from error


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
