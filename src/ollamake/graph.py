"""Catalog -> steps. Edges are paths: a step that reads what another writes comes after it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.catalog.adapters import is_lora_file
from ollamake.catalog.expanded import joined, told, written
from ollamake.catalog.tests import said_tests, tests_datasets, tests_files
from ollamake.catalog.values import MARKERS, Catalog, Dataset, Model

BUILD = "build"
ADAPTERS = "adapters"
WEIGHTS = "weights"  # of models that were trained whole; no part of build/, which may be deleted
TEXT_FORMATS = {"chat": "jsonl", "alpaca": "jsonl", "templated": "jsonl", "text": "txt"}  # what a trainer may read -> how the file ends
# Raised when a stage comes to write something else from the same inputs: all of its steps run again then.
VERSIONS = {"validate": 2, "fetch": 1, "convert": 3, "train": 1, "package": 2, "register": 2, "test": 1}
ON_A_SERVER = ("register", "test")  # stages whose target is a server
CANDIDATE, LATEST, PREVIOUS = "candidate", "latest", "previous"  # tags: of a model that is tried, the one that is used, and the one before


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Step:
    """One stage of one dataset or model."""

    stage: str
    name: str  # of the dataset or model
    reads: tuple[str, ...]  # file dependencies
    writes: tuple[str, ...]  # targets; empty where the target is a server
    keys: Mapping[str, Any]  # what the catalog says of this step, as JSON values, by the keys' names in the catalog; no value of the environment
    subject: Dataset | Model
    host: str | None = None  # of the server that it talks to, as the catalog has it; None where there is but one
    after: tuple[str, ...] = ()  # steps whose target is a server, and is what this one begins with

    def __repr__(self) -> str:  # `doit info` prints it: all of a model is pages, and values of the environment are among them
        return f"<Step {self.id}>"

    @property
    def named_reads(self) -> dict[str, str]:
        """The file dependencies by the names that a record gives them: a base keeps its name wherever its file lies, and the environment is not told."""
        base = self.subject.base if isinstance(self.subject, Model) else None
        return {f"base {base.name}" if base is not None and path == base.gguf else written(path): path for path in self.reads}

    @property
    def id(self) -> str:
        """The name of the doit task: `train:legal`; where there are several servers, `test:legal@gpu-box:11434`."""
        return f"{self.stage}:{self.name}" + ("" if self.host is None else f"@{written(self.host).partition('://')[2] or written(self.host)}")

    @property
    def base(self) -> str:
        """The name of its model's base; empty for a dataset."""
        return self.subject.base.name if isinstance(self.subject, Model) else ""

    @property
    def record_id(self) -> str:
        """What it is remembered by, at the place of its server: the same whether that is one of several or not."""
        return f"{self.stage}:{self.name}"

    @property
    def named_after(self) -> dict[str, str]:
        """What the steps have made that this one comes after, by their ids: a model, by its name in Ollama."""
        return dict.fromkeys(self.after, f"{self.name}:{CANDIDATE}")


def steps_of(catalog: Catalog, text_formats: Mapping[str, str], whole: Collection[str] = ()) -> tuple[Step, ...]:
    """Every step of the catalog, each behind those whose targets it reads.

    `text_formats` says of each trainer what it reads: one of TEXT_FORMATS. `whole`: the trainers that make whole weights, and no adapter.
    """
    steps = [validate_step(dataset) for dataset in catalog.datasets]
    models = {model.name: model for model in catalog.models}
    for model in _behind_their_starts(models):
        start = _start_of(model, models)
        steps.extend(model_steps(model, text_formats, whole, start=adapter_folder(start) if start else None, hosts=catalog.hosts))
    return tuple(steps)


def _behind_their_starts(models: Mapping[str, Model]) -> Iterable[Model]:
    """The models in their order, but each behind the one whose adapter its training begins with."""
    found: dict[str, Model] = {}
    for model in models.values():
        chain: dict[str, Model] = {}
        at: Model | None = model
        while at is not None and at.name not in found and at.name not in chain:
            chain[at.name] = at
            at = _start_of(at, models)
        found.update(reversed(chain.items()))
    return found.values()


def _start_of(model: Model, models: Mapping[str, Model]) -> Model | None:
    start = model.train.start if model.adapter is None else None
    return models.get(start.model or "") if start else None


def marker_of(dataset: Dataset) -> str:
    """The file that says that the dataset is without fault."""
    return f"{BUILD}/{MARKERS}/{dataset.name}.json"


def index_path(marker: str) -> str:
    """The file that says what is in the rows of a marker's dataset."""
    return f"{marker.removesuffix('.json')}.index"  # not .json: a dataset may be named x.index


def rows_path(marker: str) -> str:
    """The file with a row of each record of a marker's dataset."""
    return f"{marker.removesuffix('.json')}.rows"


def validate_step(dataset: Dataset) -> Step:
    """The step that reads every record of a dataset."""
    own = {
        "format": dataset.format,
        "fields": told(dict(dataset.fields)),
        "rules": dict(dataset.rules),
        "schema": dataset.schema and written(dataset.schema),
        "holdout": dataset.holdout,
    }
    return Step(
        stage="validate",
        name=dataset.name,
        reads=(*dataset.files, *([dataset.schema] if dataset.schema else [])),
        writes=(marker_of(dataset),),
        keys={"files": [written(path) for path in dataset.files], **{key: value for key, value in own.items() if value}},
        subject=dataset,
    )


def model_steps(
    model: Model, text_formats: Mapping[str, str], whole: Collection[str] = (), *, start: str | None = None, hosts: Collection[str] = ()
) -> Iterator[Step]:
    """A model's steps, in their order; `start` is the folder of another's adapter that its training begins with, `hosts` are those of the catalog."""
    folder = f"{BUILD}/{model.name}"
    is_whole = model.adapter is None and model.train.trainer in whole
    made = weights_files(model) if is_whole else adapter_files(adapter_folder(model)) if model.adapter is None else given_files(model.adapter)
    if model.adapter is None:
        text_format = text_formats[model.train.trainer]
        text = f"{folder}/text.{TEXT_FORMATS[text_format]}"
        yield Step(
            stage="convert",
            name=model.name,
            reads=(*(path for dataset in model.data for path in (marker_of(dataset), *dataset.files)), model.base.gguf),
            writes=(text, *([holdout_path(text)] if holds_out(model) else [])),
            keys={
                "data": {dataset.name: [written(path) for path in dataset.files] for dataset in model.data},
                **{f"{portion.dataset.name}: {key}": value for portion in model.portions for key, value in portion.mixing.items()},
                **{f"{dataset.name}: too-long": dataset.rules["too-long"] for dataset in model.data if "too-long" in dataset.rules},
                **({"shuffle by": model.train.seed} if model.shuffle else {}),
                "train.max_tokens": model.train.max_tokens,
                "train.system": told(model.train.system),
                "text format": text_format,
            },
            subject=model,
        )
        yield Step(
            stage="train",
            name=model.name,
            reads=(
                text,
                model.base.gguf,
                *([holdout_path(text)] if model.train.is_held_to_the_holdout else []),
                *(adapter_files(start) if start is not None else []),
            ),
            writes=made,
            keys={
                "train.trainer": told(model.train.trainer),
                **{f"train.{key}": told(value) for key, value in model.train.recipe.items()},
                "base.hf": model.base.hf and told(joined("", model.base.hf)),
            },
            subject=model,
        )
    elif model.hub is not None:
        yield Step(stage="fetch", name=model.name, reads=(), writes=made, keys={"adapter": model.hub.said}, subject=model)
    served = f"{folder}/served.json"
    yield Step(
        stage="package",
        name=model.name,
        reads=(*made, model.base.gguf, *([model.serve.imatrix] if model.serve.imatrix else [])),
        writes=(served,),
        keys={
            "serve.weights": "merged" if is_whole else model.serve.weights,
            "serve.weights_type": model.serve.weights_type,
            **({"serve.imatrix": written(model.serve.imatrix)} if model.serve.imatrix else {}),
        },
        subject=model,
    )
    for host in hosts if len(hosts) > 1 else (None,):
        registered = Step(
            stage="register",
            name=model.name,
            host=host,
            reads=(served,),  # names the base by its digest
            writes=(),
            keys={
                "serve.system": told(model.serve.system),
                "serve.template": told(model.serve.template),
                "serve.parameters": told(model.serve.parameters),
            },
            subject=model,
        )
        yield registered
        yield Step(
            stage="test",
            name=model.name,
            host=host,
            reads=(*map(marker_of, tests_datasets(model)), *tests_files(model)),
            writes=(),
            after=(registered.id,),
            keys={"tests": said_tests(model)},
            subject=model,
        )


def holds_out(model: Model) -> bool:
    """Is there a text of records that the model is not trained on?"""
    return any(dataset.holdout for dataset in model.data)


def holdout_path(text: str) -> str:
    """The file beside a model's text with the records that it is not trained on."""
    folder, _, name = text.rpartition("/")
    return f"{folder}/holdout.{name.rpartition('.')[2]}"


def adapter_folder(model: Model) -> str:
    """Where the model's adapter is, or will be: a folder, or, where it is given, perhaps a GGUF LoRA."""
    return model.adapter or f"{ADAPTERS}/{model.name}"


def weights_files(model: Model) -> tuple[str, ...]:
    """The file of the whole weights that the model's training makes."""
    return (f"{WEIGHTS}/{model.name}/model.gguf",)


def adapter_files(folder: str) -> tuple[str, str]:
    """The two files of a PEFT adapter that are read."""
    return joined(folder, "adapter_config.json"), joined(folder, "adapter_model.safetensors")


def given_files(adapter: str) -> tuple[str, ...]:
    """The files of an adapter that was there already."""
    return (adapter,) if is_lora_file(adapter) else adapter_files(adapter)
