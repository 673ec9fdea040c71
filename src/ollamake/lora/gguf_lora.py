"""A LoRA as a GGUF file: read, whichever llama.cpp tool made it, and written for servers that take one (Ollama before 0.34.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from ollamake.errors import BuildError
from ollamake.lora.adapter import Examined, LoraAdapter, Matrix, Named, Pair, shape_fault, side_fault, zero_verdicts
from ollamake.lora.architecture import Architecture
from ollamake.lora.gguf_file import GgufHead, Tensor, mapped, parse_head
from ollamake.lora.quants import byte_size, dequantized
from ollamake.lora.verdict import CARRIED, REFUSED, WARNING, Verdict, as_verdict, is_factor

_ALPHA = "adapter.lora.alpha"
_CUT = "is cut off: the file ends before it does"
_SIDES = ("lora_a", "lora_b")
_FIX = "convert a plain LoRA on attention and MLP layers, trained on this base, with llama.cpp's convert_lora_to_gguf.py"


def read_gguf_lora(path: Path, architecture: Architecture) -> LoraAdapter:
    """The adapter in this file, all of its tensors for tensors of the base. Raises BuildError with everything that is refused."""
    return examined_gguf(path, architecture).adapter(architecture)


def examined_gguf(path: Path, architecture: Architecture) -> Examined:
    """All that is found of the adapter in this file, for a base of this architecture. Raises nothing: what can't be read is refused as well."""
    try:
        content = mapped(path)
        head = parse_head(content, path)
        _check_kind(head, path)
    except BuildError as error:
        return Examined(verdicts=(as_verdict(error, str(path)),), alpha=0.0, pairs=())
    faults = [*_key_faults(head, architecture)]
    found: dict[str, dict[str, Named]] = {}
    broken = set()  # of which a side can't be read: the other one lacks nothing more
    for tensor in head.tensors:
        name, _, side = tensor.name.rpartition(".")
        read = _numbers(tensor, head, content)
        if side not in _SIDES:
            faults.append((tensor.name, f"tensor {tensor.name!r} is none of a plain LoRA's"))
        elif isinstance(read, str):
            faults.append((tensor.name, f"tensor {tensor.name!r} {read}"))
            broken.add(name)
        elif side in found.setdefault(name, {}):
            faults.append((tensor.name, f"tensor {tensor.name!r} is in it twice"))
        else:
            found[name][side] = (tensor.name, read)
    shapes = {tensor.name: tensor.shape for tensor in architecture.head.tensors if tensor.name in architecture.lora_tensors}
    alpha = 0.0 if any(what == _ALPHA for what, _ in faults) else float(head.keys[_ALPHA])
    pairs: dict[str, Pair] = {}
    for name, sides in found.items():
        fault = None if name in broken else _pair_fault(name, sides, shapes)
        if fault is not None:
            faults.append((next(iter(sides.values()))[0], fault))
        elif name not in broken:
            pairs[sides["lora_b"][0]] = _pair(name, sides, alpha)
    if not faults and not found:
        faults.append((path.name, "it holds no tensor"))
    verdicts = (
        *(Verdict(kind=REFUSED, what=what, text=text, file=str(path), fix=_fix(text)) for what, text in faults),
        *(
            Verdict(kind=CARRIED, what=pair.tensor, text=f"{pair.tensor}: rank {pair.rank}, scale {pair.scale:g}", file=str(path))
            for pair in pairs.values()
        ),
        *zero_verdicts(pairs, str(path)),
        *_missing(pairs.values(), architecture, path),
    )
    return Examined(verdicts=verdicts, alpha=alpha, pairs=tuple(pairs.values()))


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


def _missing(pairs: Iterable[Pair], architecture: Architecture, path: Path) -> Iterator[Verdict]:
    """The layers that have tensors in some blocks alone. A GGUF does not say what was meant to be trained."""
    blocks: dict[str, set[str]] = {}  # layer -> its blocks
    for pair in pairs:
        if pair.tensor.startswith("blk."):
            _, block, layer = pair.tensor.split(".", 2)
            blocks.setdefault(layer.removesuffix(".weight"), set()).add(block)
    for layer, those in blocks.items():
        if len(those) < architecture.blocks:
            text = f"{layer} has tensors in {len(those)} of {architecture.blocks} blocks"
            yield Verdict(kind=WARNING, what=layer, text=text, file=str(path), fix="convert the adapter again, if it is not meant so")


def _key_faults(head: GgufHead, architecture: Architecture) -> Iterator[tuple[str, str]]:
    """What is wrong with its keys, and which one."""
    served = architecture.head.architecture
    if head.architecture != served:
        yield "general.architecture", f"it is for a base of architecture {head.architecture!r}, not {served!r}"
    alpha = head.keys.get(_ALPHA)
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not is_factor(alpha):
        yield _ALPHA, f"{_ALPHA} is {alpha!r}, not a number other than 0 that a float32 holds"
    for key in head.keys:
        if key.startswith("adapter.alora."):
            yield key, f"{key}: an activated LoRA, which a server of Ollama does not carry"


def _numbers(tensor: Tensor, head: GgufHead, content: memoryview) -> Matrix | str:
    """The numbers, rows x columns, or what is wrong with them."""
    if len(tensor.shape) != 2:
        return f"has {len(tensor.shape)} dimensions, not 2"
    start, size = head.data_start + tensor.offset, byte_size(tensor.shape, tensor.type)
    if start + size > len(content):
        return _CUT
    if not size:
        return f"is empty: {tensor.shape[1]} x {tensor.shape[0]}"
    try:
        numbers = dequantized(content[start : start + size], tensor.type, tensor.shape[1])
    except (NotImplementedError, ValueError):
        return f"is {GGMLQuantizationType(tensor.type).name}, which can't be read"
    if numbers.shape != tensor.shape[::-1]:
        return f"has {tensor.shape[0]} columns, which {GGMLQuantizationType(tensor.type).name} can't have"
    return numbers if np.isfinite(numbers).all() else "holds NaN or infinite numbers"


def _fix(fault: str) -> str:
    """What to do: a file that is cut off is not to be converted again."""
    return "fetch the file again" if fault.endswith(_CUT) else _FIX


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
