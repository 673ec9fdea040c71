"""A LoRA as a GGUF file: read, whichever llama.cpp tool made it, and written for servers that take one (Ollama before 0.34.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from ollamake.errors import BuildError
from ollamake.lora.adapter import LoraAdapter, Matrix, Named, Pair, adapter_of, shape_fault, side_fault
from ollamake.lora.architecture import Architecture
from ollamake.lora.gguf_file import GgufHead, Tensor, mapped, parse_head
from ollamake.lora.quants import byte_size, dequantized

_ALPHA = "adapter.lora.alpha"
_SIDES = ("lora_a", "lora_b")


def read_gguf_lora(path: Path, architecture: Architecture) -> LoraAdapter:
    """The adapter in this file, all of its tensors for tensors of the base. Raises BuildError with every fault."""
    content = mapped(path)
    head = parse_head(content, path)
    _check_kind(head, path)
    faults = [*_key_faults(head, architecture)]
    found: dict[str, dict[str, Named]] = {}
    broken = set()  # of which a side can't be read: the other one lacks nothing more
    for tensor in head.tensors:
        name, _, side = tensor.name.rpartition(".")
        read = _numbers(tensor, head, content)
        if side not in _SIDES:
            faults.append(f"tensor {tensor.name!r} is none of a plain LoRA's")
        elif isinstance(read, str):
            faults.append(f"tensor {tensor.name!r} {read}")
            broken.add(name)
        elif side in found.setdefault(name, {}):
            faults.append(f"tensor {tensor.name!r} is in it twice")
        else:
            found[name][side] = (tensor.name, read)
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors if tensor.name in architecture.lora_tensors}
    faults += filter(None, (_pair_fault(name, sides, shapes) for name, sides in found.items() if name not in broken))
    if not faults and not found:
        faults.append("it holds no tensor")
    if faults:
        fix = "convert a plain LoRA on attention and MLP layers, trained on this base, with llama.cpp's convert_lora_to_gguf.py"
        raise BuildError("\n".join(f"{path}: {fault}" for fault in faults), fix=fix)
    alpha = float(head.keys[_ALPHA])
    pairs = (_pair(name, sides, alpha) for name, sides in found.items())
    return adapter_of(pairs, alpha, architecture)


def write_gguf_lora(adapter: LoraAdapter, architecture: Architecture, target: Path) -> None:
    """Write the adapter as `target`, in float32.

    The file has one alpha, and a reader scales each pair by alpha / rank: a pair that is scaled otherwise (rsLoRA) has the difference in its B.
    """
    writer = GGUFWriter(target, architecture.head.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32(_ALPHA, adapter.alpha)
    for pair in adapter.pairs:
        correction = np.float32(pair.scale * pair.rank / adapter.alpha)
        writer.add_tensor(f"{pair.tensor}.lora_a", pair.a)
        writer.add_tensor(f"{pair.tensor}.lora_b", pair.b * correction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_kind(head: GgufHead, path: Path) -> None:
    """Refuse at once what is no LoRA: all else that could be said of it would be noise."""
    kind, sort = head.keys.get("general.type", "model"), head.keys.get("adapter.type")
    if kind != "adapter":
        msg = f"{path}: {'a whole model, ' if kind == 'model' else ''}not an adapter: its general.type is {kind!r}"
        raise BuildError(msg, fix="give the adapter itself; a whole model is what a base's `gguf` names")
    if sort != "lora":
        msg = f"{path}: an adapter of another kind: its adapter.type is {sort!r}, not 'lora'"
        raise BuildError(msg, fix="give a LoRA: llama.cpp and Ollama serve no other adapter")


def _key_faults(head: GgufHead, architecture: Architecture) -> Iterator[str]:
    served = architecture.head.architecture
    if head.architecture != served:
        yield f"it is for a base of architecture {head.architecture!r}, not {served!r}"
    alpha = head.keys.get(_ALPHA)
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not alpha or not math.isfinite(alpha):
        yield f"{_ALPHA} is {alpha!r}, not a number other than 0"
    for key in head.keys:
        if key.startswith("adapter.alora."):
            yield f"{key}: an activated LoRA, which a server of Ollama does not carry"


def _numbers(tensor: Tensor, head: GgufHead, content: memoryview) -> Matrix | str:
    """The numbers, rows x columns, or what is wrong with them."""
    if len(tensor.shape) != 2:
        return f"has {len(tensor.shape)} dimensions, not 2"
    start, size = head.data_start + tensor.offset, byte_size(tensor.shape, tensor.type)
    if start + size > len(content):
        return "ends behind the end of the file: fetch the file again"
    if not size:
        return f"is empty: {tensor.shape[1]} x {tensor.shape[0]}"
    try:
        numbers = dequantized(content[start : start + size], tensor.type, tensor.shape[1])
    except (NotImplementedError, ValueError):
        return f"is {GGMLQuantizationType(tensor.type).name}, which can't be read"
    if numbers.shape != tensor.shape[::-1]:
        return f"has {tensor.shape[0]} columns, which {GGMLQuantizationType(tensor.type).name} can't have"
    return numbers if np.isfinite(numbers).all() else "holds NaN or infinite numbers"


def _pair_fault(name: str, sides: Mapping[str, Named], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    fault = side_fault(sides, *_SIDES)
    if fault is not None:
        return fault
    a, b = (sides[side] for side in _SIDES)
    if name not in shapes:
        return f"tensor {a[0]!r}: the base has no tensor {name!r} that takes a LoRA"
    return shape_fault(a, b, name, shapes[name])


def _pair(name: str, sides: Mapping[str, Named], alpha: float) -> Pair:
    a, b = (sides[side][1] for side in _SIDES)
    return Pair(tensor=name, a=a, b=b, scale=alpha / a.shape[0])  # of llama.cpp's llama-adapter.h: `get_scale`
