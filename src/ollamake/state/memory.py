"""All that is remembered, as it is in memory while a command runs: the lock's blocks, what is of this machine, and the user's own tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile, InvalidTask

from ollamake.errors import BuildError, as_printed, with_fix
from ollamake.state.files import read_object, remedy, write_whole
from ollamake.state.journal import Journal
from ollamake.state.lock_file import Block, faulty, is_block, lock_text, read_lock


class StateError(InvalidTask, InvalidDodoFile):
    """The memory can't be read or written; doit prints it as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(as_printed(text))


class Memory:
    """What was read from the files, and what has happened since."""

    def __init__(self, path: Path, local: Path, journal: Journal) -> None:
        """Read the lock at `path`, what is below the folder `local`, and what the journal has of a build that was killed. Raises StateError."""
        self.path = path
        self.local = local
        self.dirty = False  # is there anything to fold?
        try:
            # The journal first: a build that folds it into the lock meanwhile has written both then, and what is taken twice is the same.
            entries = journal.entries()
            self.text = _text_in(path)  # of the lock, as it is on the disk
            self.blocks: dict[str, Block] = {} if self.text is None else read_lock(self.text, path.name)
            self.places = {file.stem: _blocks_in(file) for file in sorted((local / "records").glob("*.json"))}
            self.tasks: dict[str, dict[str, Any]] = read_object(local / "tasks.json")  # of the user's own
            for entry in entries:
                self.take(entry)
        except BuildError as error:
            raise StateError(str(error)) from error
        except OSError as error:
            raise StateError(with_fix(f"{error.filename or path.name} can't be read: {error.strerror}", remedy(error))) from error

    def is_step(self, task: str) -> bool:
        """Is this a step of ollamake's that was done once?"""
        step = record_of(task)
        return step in self.blocks or any(step in known for known in self.places.values())

    def known(self, step: str) -> dict[str, Any]:
        """The block of a step that was done once, and the place that it is remembered for."""
        places, step = ((None, self.blocks), *self.places.items()), record_of(step)
        return next({"block": known[step], "place": place} for place, known in places if step in known)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of the journal over."""
        self.dirty = True
        if "step" in entry and is_block(entry.get("block")):
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
                    known.pop(record_of(entry["forgotten"]), None)

    def leave_out(self, steps: set[str]) -> None:
        """Drop what is remembered of steps that are not among these."""
        for known in (self.blocks, *self.places.values()):
            gone = known.keys() - steps
            self.dirty = self.dirty or bool(gone)
            for step in gone:
                del known[step]

    def write(self) -> None:
        """Write the files that are not as they should be. Raises StateError; each of them is whole then, the old one or the new."""
        text = lock_text(self.blocks)
        with writing(self.path):
            if text != self.text and (self.blocks or self.text is not None):
                write_whole(self.path, text, durable=True)
                self.text = text
        with writing(self.local):
            for place, known in self.places.items():
                _write_changed(self.local / "records" / f"{place}.json", known)
            _write_changed(self.local / "tasks.json", self.tasks)
        self.dirty = False


def record_of(task: str) -> str:
    """What a doit task of ours is remembered by: `test:legal@gpu-box:11434`, where there are several servers, by `test:legal`, at the place of its server."""
    return task.partition("@")[0]


def _write_changed(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text, durable=True)


def _text_in(path: Path) -> str | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise faulty(path.name, content.count(b"\n", 0, error.start) + 1, "not UTF-8") from error


def _blocks_in(path: Path) -> dict[str, Block]:
    return {step: block for step, block in read_object(path).items() if is_block(block)}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have what goes wrong while this is written said as it should be. Raises StateError."""
    try:
        yield
    except OSError as error:
        msg = f"{path.name} can't be written: {error.strerror}"
        raise StateError(with_fix(msg, f"{remedy(error)}, then run `doit` again: what was finished before stays finished")) from error
