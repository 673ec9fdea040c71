"""Recipes, held against what their trainers can do and the catalog's policy: before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ollamake.catalog import Base, Catalog, Model
from ollamake.catalog.expanded import written
from ollamake.catalog.tests import LOSS, METRICS, Measure
from ollamake.errors import Fault, FaultyFileError, Mark
from ollamake.lora.peft_config import CONFIG, names_quantized, trained_on_quantized
from ollamake.trainers.port import ADAPTER, Objection, Trainer, trainer
from ollamake.trainers.refused import QLORA, QLORA_TOLD, targets_refused


def held_against_trainers(catalog: Catalog) -> Catalog:
    """The catalog, with a warning for each recipe that is better otherwise.

    Raises FaultyFileError for those that can't be built, and BuildError for a trainer that can't be loaded.
    """
    found: dict[tuple[Mark, Objection], dict[str, None]] = {}  # models in the order of the catalog: one may be told of twice
    models = {model.name: model for model in catalog.models}
    of_bases: dict[str, tuple[Objection, ...]] = {}
    for model in catalog.models:
        if model.adapter is None:
            if model.base.name not in of_bases:
                of_bases[model.base.name] = tuple(_of_base(model.base))
            of_recipe = (replace(against, key=f"train.{against.key}") for against in _objections(models, model, trainer(model.train.trainer)))
            objections: Iterable[Objection] = (*of_bases[model.base.name], *of_recipe, *_of_tests(model))
        else:
            objections = _of_adapter(Path(model.adapter))
        for objection in objections:
            found.setdefault((catalog.mark_of(model.name, objection.key) or model.mark, objection), {})[model.name] = None
    policy = {"qlora": "warn", **catalog.policy}
    errors: list[Fault] = []
    warnings: list[Fault] = []
    for (mark, objection), names in found.items():
        said = "refuse" if objection.policy is None else policy[objection.policy]
        if said == "allow":
            continue
        is_error = said == "refuse"
        because = f"; `policy: {{{objection.policy}: refuse}}` of this catalog" if is_error and objection.policy else ""
        text = f"{_of(tuple(names))}: {objection.text}{because}"
        (errors if is_error else warnings).append(Fault(mark=mark, text=text if is_error else f"warning: {text}", fix=objection.fix))
    if errors:
        raise FaultyFileError(sorted(errors, key=lambda fault: (fault.mark.path, fault.mark.line)))
    return replace(catalog, warnings=(*catalog.warnings, *warnings)) if warnings else catalog


def _of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"model {names[0]!r}{more}"


def _of_adapter(folder: Path) -> Iterator[Objection]:
    """What its own config tells against an adapter that is there; what is wrong with it otherwise, its packaging says."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    evidence = trained_on_quantized(config) if isinstance(config, dict) else None
    if evidence is not None:
        text = f"adapter: {folder / CONFIG}: {evidence}: {QLORA_TOLD}"
        yield Objection(key="adapter", text=text, fix="train it on the base's full weights; or allow it by `policy: {qlora: allow}`", policy=QLORA)


def _of_tests(model: Model) -> Iterator[Objection]:
    """A loss can't be measured of whole weights."""
    whole = trainer(model.train.trainer).capabilities.makes != ADAPTER
    if whole and any(isinstance(test, Measure) and test.metric == LOSS for test in model.tests):
        text = f"tests: the loss is measured by the adapter of PEFT, and trainer {model.train.trainer!r} makes a whole model"
        yield Objection(key="tests", text=text, fix=f"write another metric: {', '.join(metric for metric in METRICS if metric != LOSS)}")


def _of_base(base: Base) -> Iterator[Objection]:
    """What tells that trainers would load its weights quantized: the name that it has on Hugging Face, or the config in its folder."""
    if base.hf is None:
        return
    evidence = f"{written(base.hf)!r}" if names_quantized(base.hf) else None
    if evidence is None and base.hf_folder is not None:
        at = Path(base.hf_folder, "config.json")
        try:
            config = json.loads(at.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # looked at when it is trained
        if isinstance(config, dict) and config.get("quantization_config"):
            evidence = f"{written(base.hf)}/config.json has a quantization_config"
    if evidence is not None:
        fix = "name the full weights; or remove `hf`: then the GGUF itself is trained on; or allow it by `policy: {qlora: allow}`"
        yield Objection(key="base.hf", text=f"base {base.name!r}: hf: {evidence}: {QLORA_TOLD}", fix=fix, policy=QLORA)


def _objections(models: Mapping[str, Model], model: Model, program: Trainer) -> Iterator[Objection]:
    train, can = model.train, program.capabilities
    yield from program.objections(train.recipe)
    yield from program.gpu_objections(train.recipe, train.gpus)
    yield from targets_refused(train.recipe)
    if train.is_held_to_the_holdout and not can.evaluates:
        key = "keep" if train.keep == "best" else "patience"
        yield Objection(key=key, text=f"{key}: trainer {train.trainer!r} does not read the records that are held out", fix=f"remove `{key}`")
    if train.start is not None:
        if not can.starts_from_adapter:
            yield Objection(key="start_from", text=f"start_from: trainer {train.trainer!r} can't begin with an adapter", fix="remove `start_from`")
        other = models.get(train.start.model or "")
        if other is not None and other.adapter is None and trainer(other.train.trainer).capabilities.makes != ADAPTER:
            yield Objection(key="start_from", text=f"start_from: {other.name!r} is no adapter, but a whole model", fix="start from `base`")
        if other is not None and other.adapter is not None and other.adapter.endswith(".gguf"):
            yield Objection(
                key="start_from", text=f"start_from: the adapter of {other.name!r} is a GGUF, which no trainer reads", fix="start from `base`"
            )
    weights = model.serve.weights
    if can.makes != ADAPTER and weights in {"adapter", "split"}:
        how = "as an adapter" if weights == "adapter" else "in two files, one of them shared"
        text = f"trainer {train.trainer!r} makes a whole model, which can't be served {how}, as serve.weights says"
        yield Objection(key="trainer", text=text, fix=f"remove `weights: {weights}` from the model's `serve:`")
    if train.env is not None and train.trainer == "command":
        yield Objection(key="env", text="env: trainer 'command' runs what its command says", fix="name the program in `command` by its path")
