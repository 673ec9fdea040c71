"""The catalog as frozen values: what `models.yaml` says, checked, with every default in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ollamake.catalog.outside import HubAdapter, Push, SinkPlace
from ollamake.catalog.places import Engine
from ollamake.errors import BuildError, Fault, Mark

if TYPE_CHECKING:
    from ollamake.catalog.tests import Test

KeyPath: TypeAlias = tuple[str | int, ...]  # ("models", "legal", "data", 0)

MARKERS, PAGES = "datasets", "report"  # the folders below build/ that are no model's
COMMAND_PLACES = ("text", "base", "out", "recipe", "gpus")  # what `{...}` may stand for in train.command


def mark_of(at: KeyPath, lines: Mapping[KeyPath, int], path: str) -> Mark:
    """Where this key stands, or the nearest one around it that stands in the file."""
    while at and at not in lines:
        at = at[:-1]
    return Mark(path, lines.get(at, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that adapters are trained on and served from."""

    name: str
    gguf: str  # path, relative to the catalog's folder; of one that Ollama holds, that of the blob once it is found, and `ollama:NAME` before
    hf: str | None  # Hugging Face id or folder that the trainer loads instead of the GGUF, as the catalog says it
    hf_folder: str | None = None  # path, relative to the working directory, if it is one of a folder
    ollama: str | None = None  # model in Ollama whose GGUF it is
    manifest: tuple[str, str] | None = None  # of that model: file and digest, where it was found
    lacks: tuple[str, str] | None = None  # why its GGUF can't be had from Ollama, and what to do
    mark: Mark

    @property
    def source(self) -> str | None:
        """What the trainer loads instead of the GGUF: the folder, where it is there."""
        return self.hf_folder if self.hf_folder is not None and os.path.isdir(self.hf_folder) else self.hf

    def missing(self) -> BuildError:
        """The error that the GGUF is not there."""
        if self.lacks is not None:
            return BuildError(f"{self.mark}: base {self.name!r}: {self.lacks[0]}", fix=self.lacks[1])
        msg = f"{self.mark}: base {self.name!r}: no such file: {self.gguf}"
        return BuildError(msg, fix="put the GGUF there, or mend `gguf`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A named set of files of records."""

    name: str
    files: tuple[str, ...]  # paths, relative to the catalog's folder; patterns are resolved
    format: str | None = None  # None: that of the first record
    fields: tuple[tuple[str, str], ...] = ()  # key of the format -> what the records call it
    rules: Mapping[str, str] = field(default_factory=dict)  # rule -> severity, or policy, where it is not the rule's own
    schema: str | None = None  # path of a JSON Schema that the records are held to as well
    holdout: float = 0.0  # share of the records that no model is trained on
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """How much of a dataset a model is trained on."""

    dataset: Dataset
    weight: float = 1.0  # how often a record is read: 0.3 is three of ten, 2 is each twice
    limit: int | None = None  # records at most, before they are weighed

    @property
    def mixing(self) -> dict[str, Any]:
        """What of it is not read whole, as JSON values by the catalog's keys; empty where nothing is left out or repeated."""
        facts = {"weight": self.weight, "limit": self.limit, "holdout": self.dataset.holdout}
        return {key: value for key, value in facts.items() if value != {"weight": 1.0, "limit": None, "holdout": 0.0}[key]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """An adapter that a training begins with, in the place of the base alone."""

    model: str | None = None  # whose; None: the model's own, of the training before
    always: bool = False  # of its own: even where records were changed or removed since
    limit: int = 10  # of its own: so many trainings at most, one upon the other

    @property
    def said(self) -> str | dict[str, Any]:
        """As the catalog says it."""
        if self.model is not None:
            return self.model
        return "previous" if self == Start() else {"limit": self.limit, "previous": "always" if self.always else "added"}


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
    options: Mapping[str, Any] = field(default_factory=dict)  # what the trainer's own keys say
    keep: str = "last"  # or best: the adapter of which epoch, by the loss of the holdout
    patience: int | None = None  # epochs without a better loss of the holdout after which the training ends
    start: Start | None = None  # None: the base alone
    env: str | tuple[str, ...] | None = None  # where the trainer's packages are: folder of a venv, or words of a prefix; not part of the recipe
    launch: tuple[str, ...] = ()  # words before the trainer's program, which runs it elsewhere; not part of the recipe
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
        more = {
            "command": list(self.command),
            "keep": self.keep if self.keep != "last" else None,
            "options": dict(self.options),
            "patience": self.patience,
            "start_from": self.start.said if self.start else None,
        }
        return {**recipe, **{key: value for key, value in more.items() if value}}

    @property
    def is_held_to_the_holdout(self) -> bool:
        """Do the records that are held out decide the adapter?"""
        return self.keep == "best" or self.patience is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """How a model is served."""

    system: str | None = None
    template: str | None = None  # Go template of Ollama's; None: Ollama finds it by the base's own
    parameters: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "auto"  # auto, adapter, merged or split
    weights_type: str = "q8_0"  # of changed tensors in merged weights: one of lora.changes.WEIGHTS_TYPES, or keep
    imatrix: str | None = None  # file with an importance matrix of the base, for changed tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One fine-tuned model."""

    name: str
    base: Base
    portions: tuple[Portion, ...]  # of datasets, in the order in which they are read
    shuffle: bool  # are the records of all of them mixed, by the seed?
    train: Train
    engine: Engine = field(default_factory=Engine)
    adapter: str | None  # folder, or GGUF LoRA, of an adapter that is there already; then nothing is trained
    hub: HubAdapter | None = None  # where `adapter` is fetched from
    push: Push | None = None  # where it is published, when that is asked for; no part of any step that builds
    serve: Serve
    tags: tuple[str, ...]  # by which models are selected; no part of any step
    tests: tuple[Test, ...] = ()  # what it is asked before it gets its name: its own, then those that are said of all models
    mark: Mark

    @property
    def data(self) -> tuple[Dataset, ...]:
        """The datasets that the model is trained on."""
        return tuple(portion.dataset for portion in self.portions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A place in the catalog that says something of a model: its own entry, or defaults."""

    path: str
    at: KeyPath
    lines: Mapping[KeyPath, int]  # of the file
    value: Mapping[str, Any]
    moved: Mapping[KeyPath, KeyPath] = field(default_factory=dict)  # key of the model -> where it stands instead, below `at`

    def place(self, key: KeyPath) -> KeyPath:
        """Where the file says this key of the model, if it does."""
        shown = next((self.moved[key[:size]] + key[size:] for size in range(len(key), 0, -1) if key[:size] in self.moved), key)
        return (*self.at, *shown)

    def mark(self, key: KeyPath) -> Mark | None:
        """Where the value of this key stands; None where it is not said here."""
        line = self.lines.get(self.place(key))
        return None if line is None else Mark(self.path, line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Where adapters are shared, so that they are trained once for everybody."""

    url: str  # of any filesystem that fsspec knows, or the path of a folder, relative to the working directory
    read: bool = True
    write: bool = True
    timeout: float = 10.0  # seconds that it has to answer
    packed: int | None = None  # bytes that served weights may take there; None: they are not shared
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All of `models.yaml`, and what it includes."""

    path: str
    hosts: tuple[str, ...] = ()  # of Ollama; none: $OLLAMA_HOST, else this machine
    kept_versions: int = 1  # of a model, in Ollama, beside the one that is used
    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    cache: Cache | None = None
    sinks: tuple[SinkPlace, ...] = ()  # that are told of trainings
    policy: Mapping[str, str]  # "qlora" -> "allow", "warn" or "refuse"
    warnings: tuple[Fault, ...]  # entries and keys that nothing uses, and recipes that are better otherwise
    layers: Mapping[str, tuple[Layer, ...]]  # model -> what its keys are said by, the last word first
    digests: Mapping[str, str]  # of each of its files
    patterns: Mapping[str, list[str]]  # of files -> what it came to when the catalog was read
    environment: Mapping[str, str | None]  # variable that it may use -> digest of the value that it had; None: it was not set

    @property
    def host(self) -> str | None:
        """The first of its servers, or None where it names none."""
        return self.hosts[0] if self.hosts else None

    def mark_of(self, model: str, key: str) -> Mark | None:
        """Where the value of a model's key comes from (`train.rank`): its own entry, or else the defaults; None where none of them has it."""
        marks = (layer.mark(tuple(key.split("."))) for layer in self.layers.get(model, ()))
        return next(filter(None, marks), None)
