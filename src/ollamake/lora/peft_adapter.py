"""A PEFT directory, checked against the base that it shall be served with.

Nothing is carried that is not understood: several malformed adapters crash Ollama, or load as the plain base, so each is refused here by
the name of its tensor.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from ollamake.errors import BuildError
from ollamake.lora.adapter import LoraAdapter, Matrix, Named, Pair, adapter_of, shape_fault, side_fault
from ollamake.lora.architecture import Architecture
from ollamake.lora.peft_config import CONFIG, PICKLE, WEIGHTS, config_faults, rank_of, read_config, scale_of

__all__ = ["CONFIG", "WEIGHTS", "read_peft_adapter"]

_LORA_TENSOR = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.(?P<side>lora_[AB])(?:\.default)?\.weight$")

_FLOATS: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
# Reads numbers alone: what else a pickle may do, `weights_only` refuses.
_CONVERTS = (
    "import sys, torch; from safetensors.torch import save_file; "
    "save_file({name: tensor.clone().contiguous() for name, tensor in torch.load(sys.argv[1], map_location='cpu', weights_only=True).items()}, sys.argv[2])"
)


def read_peft_adapter(folder: Path, architecture: Architecture) -> LoraAdapter:
    """The adapter in this folder, all of its tensors for tensors of the base. Raises BuildError with every fault."""
    config = read_config(folder / CONFIG)
    tensors = _tensors(folder / WEIGHTS)
    faults = [*config_faults(config)]
    are_faults_of_config = bool(faults)
    modules: dict[str, dict[str, Named]] = {}
    broken = set()  # of which a side can't be read: the other one lacks nothing more
    for name, tensor in sorted(tensors.items()):
        match = _LORA_TENSOR.match(name)
        if match is None:
            faults.append(f"tensor {name!r} is none of a plain LoRA's")
        elif not np.isfinite(tensor).all():
            faults.append(f"tensor {name!r} holds NaN or infinite numbers")
            broken.add(match["module"])
        else:
            sides = modules.setdefault(match["module"], {})
            if match["side"] in sides:
                faults.append(f"tensors {sides[match['side']][0]!r} and {name!r} are of one layer")
            sides[match["side"]] = (name, tensor)
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors}
    pairs: list[Pair] = []
    for module, sides in modules.items():
        fault = (
            None if module in broken else _pair_fault(module, sides, architecture.tensor_name(module), shapes, {} if are_faults_of_config else config)
        )
        if fault is not None:
            faults.append(fault)
        elif not faults:
            pairs.append(_pair(module, sides, config, architecture))
    if not faults and not pairs:
        faults.append(f"{WEIGHTS} holds no tensor")
    if faults:
        fix = "train a plain LoRA on attention and MLP layers: no DoRA, no bias, no modules_to_save"
        raise BuildError("\n".join(f"{folder}: {fault}" for fault in faults), fix=fix)
    return adapter_of(pairs, float(config["lora_alpha"]), architecture)


def refuse_pickle_beside(weights: Path) -> None:
    """Raise BuildError where the weights that are missing are there as a pickle; says the command that converts it."""
    pickle = weights.with_name(PICKLE)
    if pickle.exists():
        msg = f"{pickle}: a pickle, which may run any program when it is loaded: it is never loaded"
        raise BuildError(msg, fix=f"convert it; this loads numbers alone: python -c {shlex.join([_CONVERTS, str(pickle), str(weights)])}")


def _tensors(path: Path) -> dict[str, Matrix]:
    try:
        found: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # safetensors types its other calls
    except FileNotFoundError:
        refuse_pickle_beside(path)
        msg = f"{path}: no such file"
        raise BuildError(msg, fix=f"give a PEFT directory: {CONFIG} and {WEIGHTS}") from None
    except (OSError, SafetensorError) as error:
        msg = f"{path}: not a whole safetensors file: {error}"
        raise BuildError(msg, fix="train or fetch the adapter again") from error
    unreadable = [f"{path}: tensor {name!r} is {tensor['dtype']}, not floats" for name, tensor in found if tensor["dtype"] not in _FLOATS]
    if unreadable:
        raise BuildError("\n".join(unreadable), fix="save the adapter in float32, float16 or bfloat16")
    return {name: _float32(tensor) for name, tensor in found}


def _float32(tensor: Mapping[str, Any]) -> Matrix:
    numbers = np.frombuffer(tensor["data"], dtype=_FLOATS[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(numbers, dtype=np.float32)


def _pair_fault(
    module: str, sides: Mapping[str, Named], tensor: str | None, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]
) -> str | None:
    """What is wrong with a module's LoRA; ranks are compared where there is a config that says them."""
    fault = side_fault(sides, "lora_A", "lora_B")
    if fault is not None:
        return fault
    a, b = sides["lora_A"], sides["lora_B"]
    if tensor is None or tensor not in shapes:
        return f"tensor {a[0]!r}: the base has no module {module!r} that takes a LoRA"
    fault = shape_fault(a, b, tensor, shapes[tensor])
    if fault is None and config and a[1].shape[0] != rank_of(config, module):
        return f"tensor {a[0]!r} has rank {a[1].shape[0]}, where the config has r {rank_of(config, module)!r}"
    return fault


def _pair(module: str, sides: Mapping[str, Named], config: Mapping[str, Any], architecture: Architecture) -> Pair:
    tensor = architecture.tensor_name(module)
    assert tensor is not None  # or it had been a fault
    a, b = sides["lora_A"][1], sides["lora_B"][1]
    return Pair(tensor=tensor, a=a, b=architecture.in_file_order(tensor, b), scale=scale_of(config, module, a.shape[0]))
