"""What a trainer is to ollamake. Trainers are found by the entry point group `ollamake.trainers`; the built-in ones come by the same door."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, Protocol

from ollamake.errors import BuildError

GROUP = "ollamake.trainers"
PARTS = ("text_format", "missing", "versions", "command", "event")  # of a Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training. All that it needs is in its folder; its base is named."""

    folder: Path  # absolute; holds job.json, the text, and `out`, where the adapter shall be
    text: Path  # absolute
    base: Mapping[str, Any]  # {"gguf": absolute path, "digest": str}, and "hf" where the catalog gives it
    recipe: Mapping[str, Any]
    cache: Path  # absolute; for what the trainer wants to keep between trainings

    @property
    def out(self) -> Path:
        """Where the PEFT adapter shall be."""
        return self.folder / "out"

    def as_json(self) -> dict[str, Any]:
        """What `job.json` says; paths inside the folder are relative to it."""
        return {
            "text": self.text.name,
            "out": self.out.name,
            "base": dict(self.base),
            "recipe": dict(self.recipe),
            "cache": str(self.cache),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]  # beside this process's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a training tells while it runs."""

    kind: str  # "loading", "start", "step", "done" or "failed"
    step: int = 0
    steps: int = 0  # of the whole training
    loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    examples: int = 0
    tokens: int = 0  # that the whole training reads
    reason: str = ""  # of a failure


class Trainer(Protocol):
    """A program that trains a LoRA."""

    text_format: str  # what it reads: "chat" (JSONL of messages) or "text" (plain)

    def missing(self) -> str | None:
        """What to type to install what is missing, or None where the trainer can run. Cheap: imports nothing."""

    def versions(self) -> Mapping[str, str]:
        """Those of the packages that decide what comes out, by their names. Recorded; a change trains again where the catalog pins them. Cheap, too."""

    def command(self, job: Job) -> Command:
        """The program that does this job. Pure. It is ended when its build is."""

    def event(self, line: str) -> Event | None:
        """What a line of the program's standard output tells, or None."""


KINDS = ("loading", "start", "step", "done", "failed")


def json_event(line: str) -> Event | None:
    """The event of a line with a JSON object in Event's own words, such as the embedded trainer writes; None for any other, which is for the log."""
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.get("event") not in KINDS or (facts["event"] == "failed" and not facts.get("reason")):
        return None
    known = {name: facts[name] for name in Event.__dataclass_fields__ if name in facts}
    if not all(isinstance(value, str) if name == "reason" else _is_number(value) for name, value in known.items()):
        return None
    return Event(kind=facts["event"], **known)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@cache
def trainer_names() -> tuple[str, ...]:
    """The names of the trainers that are installed."""
    return tuple(sorted(entry_points(group=GROUP).names))


@cache
def trainer(name: str) -> Trainer:
    """The trainer of this name. Raises BuildError where it can't be loaded."""
    try:
        (entry,) = entry_points(group=GROUP, name=name)
        found: Trainer = entry.load()()
    except Exception as error:  # a plugin may fail in any way
        msg = f"trainer {name!r} can't be loaded: {error}"
        raise BuildError(msg, fix=f"reinstall the package that provides {name!r}") from error
    lacking = [part for part in PARTS if not hasattr(found, part)]
    if lacking:
        msg = f"trainer {name!r} is not a trainer of this ollamake: it has no {', '.join(lacking)}"
        raise BuildError(msg, fix=f"install a version of the package that provides {name!r} which fits ollamake {version('ollamake')}")
    return found
