"""A PEFT directory, as the embedded trainer writes it, and begins with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ollamake.spelling import counted
from ollamake.trainers.adapter_folder import CONFIG, WEIGHTS
from ollamake.trainers.peft_lora import PREFIX, Weights
from ollamake.trainers.peft_refusal import RefusedError


def save_adapter(weights: Weights, out: Path, *, recipe: Mapping[str, Any], base: Mapping[str, Any], dropout: float) -> None:
    """Write the adapter; the same weights are the same bytes, on any machine."""
    alpha = recipe["alpha"]
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "base_model_name_or_path": base.get("hf") or Path(base["gguf"]).name,  # never a path of this machine
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": recipe["rank"],
        "target_modules": sorted(recipe["target_modules"]),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    (out / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file({name: matrix.contiguous().cpu() for name, matrix in weights.named().items()}, out / WEIGHTS, metadata={"format": "pt"})


def begin_with(weights: Weights, start: Path, *, rank: int) -> None:
    """Make the weights those of the adapter in this folder, which then changes the base as it did. Raises RefusedError where it is of another shape."""
    try:
        config = json.loads((start / CONFIG).read_text(encoding="utf-8"))
        tensors = {_plain(name): tensor for name, tensor in load_file(start / WEIGHTS).items()}
    except (OSError, ValueError, SafetensorError) as error:
        msg = f"the adapter to start from can't be read: {error}"
        raise RefusedError(msg, fix="train it again, or start from the base", key="start_from") from error
    if config.get("r") != rank:
        msg = f"the adapter to start from has rank {config.get('r')}, and this training {rank}"
        raise RefusedError(msg, fix=f"write `rank: {config.get('r')}`, or start from the base", key="start_from")
    wanted = weights.named()
    faults = [f"{name} is not in it" for name in wanted if name not in tensors]
    faults += [f"{name} is in it, and not trained here" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, and here {tuple(matrix.shape)}"
        for name, matrix in wanted.items()
        if name in tensors and tensors[name].shape != matrix.shape
    ]
    if faults or config.get("alpha_pattern"):
        said = faults[0] if faults else "it has an alpha_pattern"
        more = f" (and {counted(len(faults) - 1, 'more difference')})" if len(faults) > 1 else ""
        msg = f"the adapter to start from does not fit: {said.removeprefix(PREFIX)}{more}"
        raise RefusedError(msg, fix="use the target_modules and the base that it was trained with, or start from the base", key="start_from")
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    for name, layer in weights.layers.items():
        layer.a.data.copy_(tensors[f"{PREFIX}{name}.lora_A.weight"])
        layer.b.data.copy_(tensors[f"{PREFIX}{name}.lora_B.weight"] * (scale / layer.scale))


def _plain(name: str) -> str:
    """A tensor's name as newer versions of PEFT write it."""
    name = name.replace(".default.weight", ".weight")
    return name if name.startswith(PREFIX) else PREFIX + name
