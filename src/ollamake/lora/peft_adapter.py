"""A PEFT directory, checked against the base that it shall be served with.

Nothing is carried that is not understood: several malformed adapters crash Ollama, or load as the plain base, so each is refused here by
the name of its tensor.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from ollamake.errors import BuildError
from ollamake.lora.architecture import Architecture

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Keys of the config that, where they say something, make more of the adapter than its A and B.
NOT_CARRIED = (
    *("alora_invocation_tokens", "alpha_pattern", "bias", "fan_in_fan_out", "layer_replication", "lora_bias", "modules_to_save"),
    *("rank_pattern", "target_parameters", "trainable_token_indices", "use_dora", "use_qalora"),
)
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")
_LORA_TENSOR = re.compile(r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")

_FLOATS: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The LoRA of one tensor of the base: delta = scale * b @ a, its rows in the order of the GGUF."""

    tensor: str  # of the GGUF: blk.0.attn_q.weight
    a: Matrix  # rank x columns
    b: Matrix  # rows x rank
    scale: float

    @property
    def rank(self) -> int:
        """The LoRA's inner dimension."""
        return int(self.a.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftAdapter:
    """A checked adapter."""

    alpha: float
    pairs: tuple[Pair, ...]  # in the order of the base's tensors


def read_peft_adapter(folder: Path, architecture: Architecture) -> PeftAdapter:
    """The adapter in this folder, all of its tensors for tensors of the base. Raises BuildError with every fault."""
    config = _config(folder / CONFIG)
    tensors = _tensors(folder / WEIGHTS)
    faults = [*_config_faults(config)]
    sides: dict[str, dict[str, tuple[str, Matrix]]] = {}
    for name, tensor in sorted(tensors.items()):
        match = _LORA_TENSOR.match(name)
        if match is None:
            faults.append(f"tensor {name!r} is none of a plain LoRA's")
        elif not np.isfinite(tensor).all():
            faults.append(f"tensor {name!r} holds NaN or infinite numbers")
        else:
            both = sides.setdefault(match["module"], {})
            if match["side"] in both:
                faults.append(f"tensors {both[match['side']][0]!r} and {name!r} are of one layer")
            both[match["side"]] = (name, tensor)
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors}
    found: dict[str, Pair] = {}
    for module, both in sides.items():
        fault = _pair_fault(module, both, architecture.tensor_name(module), shapes, config.get("r"))
        if fault is not None:
            faults.append(fault)
        elif not faults:
            pair = _pair(both, architecture.tensor_name(module) or "", config, architecture)
            found[pair.tensor] = pair
    if not faults and not found:
        faults.append(f"{WEIGHTS} holds no tensor")
    if faults:
        fix = "train a plain LoRA on attention and MLP layers: no DoRA, no bias, no modules_to_save"
        raise BuildError("\n".join(f"{folder}: {fault}" for fault in faults), fix=fix)
    ordered = tuple(found[tensor.name] for tensor in architecture.head.tensors if tensor.name in found)
    return PeftAdapter(alpha=float(config["lora_alpha"]), pairs=ordered)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise BuildError(msg, fix=f"give a PEFT directory: {CONFIG} and {WEIGHTS}") from None
    except (OSError, ValueError) as error:
        msg = f"{path}: can't be read: {error}"
        raise BuildError(msg) from error
    if not isinstance(config, dict):
        msg = f"{path}: not a JSON object"
        raise BuildError(msg)
    return config


def _tensors(path: Path) -> dict[str, Matrix]:
    try:
        found: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # safetensors types its other calls
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise BuildError(msg, fix="a pickle (adapter_model.bin) is never loaded: save the adapter as safetensors") from None
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


def _config_faults(config: dict[str, Any]) -> list[str]:
    faults = []
    if config.get("peft_type") != "LORA":
        faults.append(f"peft_type is {config.get('peft_type')!r}, not 'LORA'")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        faults.append(f"r is {rank!r}, not a whole number above 0")
    if not isinstance(alpha, (int, float)) or not alpha or not math.isfinite(alpha):
        faults.append(f"lora_alpha is {alpha!r}, not a number other than 0")
    for key in NOT_CARRIED:
        value = config.get(key)
        if value and value != "none":
            faults.append(f"{key} is {value!r}, which a server of Ollama does not carry")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_THE_BASE):
        faults.append(f"init_lora_weights is {start!r}, which changes the base's own weights")
    return faults


def _pair_fault(module: str, both: dict[str, tuple[str, Matrix]], tensor: str | None, shapes: dict[str, tuple[int, ...]], rank: object) -> str | None:
    for side, other in (("A", "B"), ("B", "A")):
        if side not in both:
            return f"tensor {both[other][0]!r} has no lora_{side} beside it"
    (name_a, a), (name_b, b) = both["A"], both["B"]
    if tensor is None or tensor not in shapes:
        return f"tensor {name_a!r}: the base has no module {module!r} that takes a LoRA"
    columns, rows = shapes[tensor]
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != columns or b.shape[0] != rows or a.shape[0] != b.shape[1]:
        return f"tensors {name_a!r} {list(a.shape)} and {name_b!r} {list(b.shape)} do not fit {tensor} of the base, {rows} x {columns}"
    if a.shape[0] != rank:
        return f"tensor {name_a!r} has rank {a.shape[0]}, where the config has r {rank!r}"
    return None


def _pair(both: dict[str, tuple[str, Matrix]], tensor: str, config: dict[str, Any], architecture: Architecture) -> Pair:
    a, b = both["A"][1], both["B"][1]
    rank = a.shape[0]
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Pair(tensor=tensor, a=a, b=np.ascontiguousarray(architecture.in_file_order(tensor, b)), scale=scale)
