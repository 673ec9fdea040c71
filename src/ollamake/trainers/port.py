"""What a trainer is to ollamake. Trainers are found by the entry point group `ollamake.trainers`; the built-in ones come by the same door."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from ollamake.errors import BuildError
from ollamake.trainers.environment import Environment, Named
from ollamake.trainers.installed import entry_of

PARTS = (
    "name",
    "text_format",
    "capabilities",
    "missing",
    "versions",
    "objections",
    "gpu_objections",
    "checkpoint",
    "plan",
    "progress",
    "collect",
)  # of a Trainer
ADAPTER, WEIGHTS = "adapter", "weights"
GGUF, FLOAT_GGUF, HF = "gguf", "float-gguf", "hf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a trainer can do, and what it needs."""

    makes: str = ADAPTER  # or WEIGHTS: a whole model, as a GGUF
    reads_base: str = GGUF  # the base as its GGUF is; or FLOAT_GGUF, in float32 (bases.float_gguf); or HF, a folder or id that transformers loads
    needs_gpu: bool = False  # can't run on a machine without one
    resumes: bool = False  # goes on from a checkpoint of its own, after it was killed
    reports_progress: bool = False  # tells each step: there is a bar, and events.jsonl
    evaluates: bool = False  # reads the holdout after each epoch, keeps the best adapter and stops early where asked
    starts_from_adapter: bool = False  # can begin with another adapter's weights
    deterministic: bool = False  # the same recipe, machine type and versions make the same bytes

    @property
    def runs_on_cpu(self) -> bool:
        """Whether it can run without a GPU."""
        return not self.needs_gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: a folder. All that it needs is in there; its base is named, and its cache is nobody's but this machine's."""

    name: str  # of the model
    folder: Path  # absolute; holds job.json, the text, `out` and `work`
    text: Path  # absolute
    records: int  # of the text
    base: Mapping[
        str, Any
    ]  # "gguf": absolute path, "digest": of it, "path": what the trainer reads, in the form that it asks for; "hf" where the catalog gives it
    recipe: Mapping[str, Any]  # as Train.recipe has it
    cache: Path  # absolute; for what the trainer wants to keep between trainings
    env: Named = None  # the environment, as the catalog names it
    gpus: int = 0  # that the training has for itself; 0: it runs on the CPU
    holdout: Path | None = None  # absolute; the records that are held out, as `text` has the others
    start: Path | None = None  # absolute; PEFT directory whose weights the training begins with
    checkpoint: Path | None = None  # absolute; what it goes on from

    @property
    def out(self) -> Path:
        """Where the result shall be: the PEFT directory itself, or a GGUF in it."""
        return self.folder / "out"

    @property
    def work(self) -> Path:
        """For checkpoints, and what else is gone when the result is whole."""
        return self.folder / "work"

    @property
    def environment(self) -> Environment:
        """Where the trainer's packages are."""
        return Environment(self.env)

    @property
    def steps(self) -> int:
        """The optimizer steps of the whole training."""
        return -(-self.records // int(self.recipe["batch_size"])) * int(self.recipe["epochs"])

    def as_json(self) -> dict[str, Any]:
        """What `job.json` says; paths inside the folder are relative to it."""

        def inside(path: Path | None) -> str | None:
            return None if path is None else path.relative_to(self.folder).as_posix()

        return {
            "name": self.name,
            "text": inside(self.text),
            "records": self.records,
            "holdout": inside(self.holdout),
            "start": inside(self.start),
            "checkpoint": inside(self.checkpoint),
            "out": inside(self.out),
            "work": inside(self.work),
            "base": dict(self.base),
            "recipe": dict(self.recipe),
            "gpus": self.gpus,
            "cache": str(self.cache),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run, and what it reads."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # beside this process's own
    files: Mapping[str, str] = field(default_factory=dict)  # path in the job's folder -> text, written before it starts
    follows: str | None = None  # path in the job's folder: a file to which it adds lines that tell its progress
    in_job: bool = True  # runs in the job's folder; else in the repo's, as what the catalog says is relative to that


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a training tells while it runs."""

    kind: str  # one of KINDS
    step: int = 0
    steps: int = 0  # of the whole training
    epoch: float | None = None  # that are done
    loss: float | None = None  # of the step; of the holdout, in an "evaluation"
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    examples: int = 0
    tokens: int = 0  # that the whole training reads
    reason: str = ""  # of a failure; what a note says
    fix: str = ""  # of a failure
    key: str = ""  # of a failure: what in the catalog's `train` it is about ("options.lora_r")


# loading: the base is read. start: steps, examples and tokens are known. resumed: it goes on behind `step`. checkpoint: one is whole at `step`.
# note: something to say, in `reason`.
KINDS = ("loading", "start", "resumed", "step", "evaluation", "checkpoint", "note", "done", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """What a trainer has against a recipe, before anything is trained."""

    key: str  # in the catalog's `train`: "options.use_dora"
    text: str
    fix: str | None = None
    policy: str | None = None  # "qlora": a warning, unless the catalog's policy refuses it; None: always an error


class Trainer(Protocol):
    """A program that trains. A class that inherits from this has to say its name, its text format and its plan; the rest is that of a plain one."""

    name: str  # by which the catalog calls it: that of its entry point
    # What it reads: "chat" (JSONL of messages), "alpaca" (JSONL of instruction, input, output), "templated" (JSONL of what the base reads, its
    # template's tokens included) or "text" (plain).
    text_format: str
    capabilities: Capabilities = Capabilities()

    def missing(self, environment: Environment) -> str | None:  # noqa: ARG002 - a plain one needs nothing
        """What to type to install what is missing there, or None where the trainer can run. Cheap: imports nothing."""
        return None

    def versions(self, environment: Environment) -> Mapping[str, str]:  # noqa: ARG002 - a plain one has none
        """Those of the packages that decide what comes out, by their names. Recorded; a change trains again where the catalog pins them. Cheap, too."""
        return {}

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:  # noqa: ARG002 - a plain one takes all
        """What can be said against a recipe without its base or its records. Pure."""
        return ()

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:  # noqa: ARG002 - a plain one takes what it is given
        """What can be said against this recipe on so many GPUs, which are no part of it. Pure."""
        return ()

    def checkpoint(self, folder: Path) -> Path | None:  # noqa: ARG002 - a plain one begins anew
        """The last whole checkpoint in a job's folder, for a trainer that resumes; None where it has to begin anew."""
        return None

    def plan(self, job: Job) -> Command:
        """The program that does this job. Pure. It is ended when its build is."""

    def progress(self, line: str) -> Event | None:
        """What a line tells, of the program's standard output or of the file that it `follows`; None for one that is for the log alone."""
        return json_event(line)

    def collect(self, folder: Path) -> Path:
        """Where in a job's folder the result is: a PEFT directory, or a GGUF. Raises BuildError where there is none that can be used."""
        return folder / "out"


def json_event(line: str) -> Event | None:
    """The event of a line with a JSON object in Event's own words, such as the embedded trainer writes; None for any other, which is for the log."""
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    if not isinstance(facts, dict) or facts.get("event") not in KINDS or (facts["event"] in {"failed", "note"} and not facts.get("reason")):
        return None
    known = {name: facts[name] for name in Event.__dataclass_fields__ if name != "kind" and facts.get(name) is not None}
    if not all(isinstance(value, str) if name in {"reason", "fix", "key"} else _is_number(value) for name, value in known.items()):
        return None
    return Event(kind=facts["event"], **known)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@cache
def trainer(name: str) -> Trainer:
    """The trainer of this name. Raises BuildError where it can't be loaded."""
    try:
        entry = entry_of(name)
        found: Trainer = entry.load()()
    except Exception as error:  # a plugin may fail in any way
        msg = f"trainer {name!r} can't be loaded: {error}"
        raise BuildError(msg, fix=f"reinstall the package that provides {name!r}") from error
    lacking = [part for part in PARTS if not hasattr(found, part)]
    if lacking:
        msg = f"trainer {name!r} is not a trainer of this ollamake: it has no {', '.join(lacking)}"
        raise BuildError(msg, fix=f"install a version of the package that provides {name!r} which fits ollamake {version('ollamake')}")
    return found
