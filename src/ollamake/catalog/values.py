"""The catalog as frozen values: what `models.yaml` says, checked, with every default in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ollamake.errors import BuildError, Fault, Mark

MARKERS = "datasets"  # the folder below build/ that is no model's


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that adapters are trained on and served from."""

    name: str
    gguf: str  # path, relative to the catalog's folder
    hf: str | None  # Hugging Face id or folder that the trainer loads instead of the GGUF
    mark: Mark

    def missing(self) -> BuildError:
        """The error that the GGUF is not there."""
        msg = f"{self.mark}: base {self.name!r}: no such file: {self.gguf}"
        return BuildError(msg, fix="put the GGUF there, or mend `gguf`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A named set of files of records."""

    name: str
    files: tuple[str, ...]  # paths, relative to the catalog's folder; patterns are resolved
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """How an adapter is trained: with the text and the base, the whole recipe."""

    trainer: str = "peft"
    rank: int = 16
    alpha: float | None = None  # None: twice the rank
    target_modules: tuple[str, ...] = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
    learning_rate: float = 2e-4
    epochs: int = 3
    batch_size: int = 4  # records
    max_tokens: int = 2048  # tokens of one record, prompt and answer
    seed: int = 42
    system: str | None = None  # system prompt of every record
    command: tuple[str, ...] = ()  # argv, for the trainer `command` alone
    gpus: int = 1  # that a training takes, where the machine has any; not part of the recipe
    pins_versions: bool = False  # does a new version of the trainer's packages train again?

    @property
    def recipe(self) -> dict[str, Any]:
        """What the trainer is given, as JSON values; the system prompt is in the text already."""
        recipe = {
            "alpha": 2.0 * self.rank if self.alpha is None else self.alpha,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "max_tokens": self.max_tokens,
            "rank": self.rank,
            "seed": self.seed,
            "target_modules": list(self.target_modules),
        }
        return {**recipe, "command": list(self.command)} if self.command else recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """How a model is served."""

    system: str | None = None
    template: str | None = None  # Go template of Ollama's; None: Ollama finds it by the base's own
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "auto"  # auto, adapter or merged
    weights_type: str = "q8_0"  # of changed tensors in merged weights: q8_0 or f16


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One fine-tuned model."""

    name: str
    base: Base
    data: tuple[Dataset, ...]
    train: Train
    adapter: str | None  # folder of an adapter that is there already; then nothing is trained
    serve: Serve
    tags: tuple[str, ...]  # by which models are selected; no part of any step
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All of `models.yaml`."""

    path: str
    host: str | None  # of Ollama; None: $OLLAMA_HOST, else this machine
    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    warnings: tuple[Fault, ...]  # entries that nothing uses
    lines: Mapping[tuple[str | int, ...], int]  # where each key stands
    digest: str  # of its text
    patterns: Mapping[str, list[str]]  # of files -> what it came to when the catalog was read
    folders: Mapping[str, bool]  # path -> was it a folder then, or is it a name of something on a hub?

    def mark_of(self, model: str, key: str) -> Mark | None:
        """Where the value of a model's key comes from (`train.rank`): its own entry, or else the defaults; None where neither has it."""
        parts = tuple(key.split("."))
        for place in (("models", model, *parts), ("defaults", *parts)):
            if place in self.lines:
                return Mark(self.path, self.lines[place])
        return None
