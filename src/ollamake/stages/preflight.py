"""What is looked at before a training takes its first minute: each of these would end it hours later, or make what can't be served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path

from ollamake.catalog import Model
from ollamake.engines.this_machine import gpus
from ollamake.errors import BuildError, Mark
from ollamake.lora.architecture import Architecture
from ollamake.spelling import nearest
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import ADAPTER, Trainer

KEPT = 3  # checkpoints that may be on the disk at once: two whole ones, and one that is being written
STATES = 3  # what a checkpoint holds of each weight: itself, and the two moments of AdamW
GB = 1e9

MarkOf = Callable[[str], Mark]  # where the catalog says a key of this model's: "train.options.lora_r"


def check_program(model: Model, program: Trainer, mark_of: MarkOf) -> None:
    """Raise BuildError where the trainer is not installed, or can't run on this machine."""
    environment = Environment(model.train.env)
    mark = mark_of("train.trainer" if model.train.env is None else "train.env")
    install = program.missing(environment)
    if install is not None:
        why = f": {environment.fault}" if environment.fault else ""
        msg = f"{mark}: model {model.name!r}: trainer {model.train.trainer!r} is not installed{why}"
        raise BuildError(msg, fix=install)
    if program.capabilities.needs_gpu and not (model.train.gpus and gpus()):
        told = "has none that is shown to it" if model.train.gpus else "is told to use none"
        msg = f"{mark_of('train.trainer')}: model {model.name!r}: trainer {model.train.trainer!r} needs a GPU, and this machine {told}"
        fix = "train it on a machine with one, or by a trainer that runs on the CPU: `trainer: peft`"
        raise BuildError(msg, fix=fix if model.train.gpus else "remove `resources: {gpu: 0}`")


def check_request(model: Model, program: Trainer, mark_of: MarkOf) -> None:
    """Raise BuildError where the trainer can't run on what a cluster is asked for."""
    if program.capabilities.needs_gpu and not model.engine.resources.get("GPU", model.train.gpus if model.train.gpus > 1 else 0):
        msg = f"{mark_of('train.trainer')}: model {model.name!r}: trainer {model.train.trainer!r} needs a GPU, and the cluster is asked for none"
        raise BuildError(msg, fix="write `engine: {resources: {GPU: 1}}`")


def check_recipe(model: Model, architecture: Architecture, mark_of: MarkOf) -> None:
    """Raise BuildError where the base has no such layers, or they are smaller than the LoRA's rank."""
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors}
    for name in model.train.target_modules:
        tensor = layer_tensor(architecture, name)
        if tensor not in shapes:
            msg = f"{mark_of('train.target_modules')}: model {model.name!r}: base {model.base.name!r} has no layer {name!r} that takes a LoRA"
            raise BuildError(msg, fix=f"train.target_modules: {nearest(name, architecture.layers)}")
        smallest = min(shapes[tensor])
        if model.train.rank > smallest:
            msg = (
                f"{mark_of('train.rank')}: model {model.name!r}: rank {model.train.rank} is above the size of {name} of base {model.base.name!r}, "
                f"{shapes[tensor][1]} x {shapes[tensor][0]}"
            )
            raise BuildError(msg, fix=f"write `rank: {min(smallest, 16)}` into the model's `train:`; no LoRA needs more than the matrix has")


def check_source(model: Model, architecture: Architecture) -> None:
    """Raise BuildError where the folder that the trainer loads is not of the base that is served."""
    folder = model.base.hf_folder
    if folder is None or not Path(folder).is_dir():
        return
    at = Path(folder, "config.json")
    try:
        config = json.loads(at.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{model.base.mark}: base {model.base.name!r}: hf: {at} can't be read: {error}"
        raise BuildError(msg, fix="give the folder that save_pretrained has written, or remove `hf`: then the GGUF itself is trained on") from error
    served = {"hidden_size": "embedding_length", "num_hidden_layers": "block_count", "num_attention_heads": "attention.head_count"}
    for name, key in served.items():
        if name in config and config[name] != architecture.head.count(key):
            msg = f"{model.base.mark}: base {model.base.name!r}: hf: {at} has {name} {config[name]}, and its GGUF {architecture.head.count(key)}"
            raise BuildError(msg, fix="let `hf` and `gguf` be one model, or remove `hf`: then the GGUF itself is trained on")


def check_room(model: Model, program: Trainer, architecture: Architecture, folder: Path) -> None:
    """Raise BuildError where the disk has no room for the checkpoints and the result."""
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors}
    if program.capabilities.makes == ADAPTER:
        ends = tuple(_tensor_end(architecture, name) for name in model.train.target_modules)
        weights = sum(model.train.rank * sum(shape) for name, shape in shapes.items() if name.endswith(ends))
        needed = 4 * weights * (STATES * KEPT + 1) if program.capabilities.resumes else 4 * weights
    else:
        needed = 4 * sum(prod(shape) for shape in shapes.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = f"{folder}: no room for the training of {model.name!r}: it needs {needed / GB:.1f} GB for checkpoints and result, and {free / GB:.1f} GB are free"
        raise BuildError(msg, fix="make room on the disk, then run `doit` again")


def layer_tensor(architecture: Architecture, layer: str) -> str | None:
    """The tensor of a layer (`q_proj`) in the first block of the base, or None where it has no such layer."""
    names = (architecture.tensor_name(f"model.layers.0.{part}.{layer}") for part in ("self_attn", "mlp"))
    return next(filter(None, names), None)


def _tensor_end(architecture: Architecture, layer: str) -> str:
    return f".{(layer_tensor(architecture, layer) or layer).split('.', 2)[-1]}"
