"""A checked adapter merged into its base's GGUF, for any server.

Keys and untouched tensors are copied byte for byte. A changed tensor is dequantized, added to and written in a type fine enough for what
was learned: a LoRA delta is smaller than a 4-bit step, so Q4 would lose it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ollamake.errors import BuildError
from ollamake.lora.adapter import LoraAdapter, Pair
from ollamake.lora.gguf_file import MAGIC, GgufHead, Tensor, mapped
from ollamake.lora.quants import byte_size, dequantized, quantized

WEIGHTS_TYPES = {"q8_0": GGMLQuantizationType.Q8_0, "f16": GGMLQuantizationType.F16}


def write_merged_gguf(base: Path, head: GgufHead, adapter: LoraAdapter, weights_type: str, target: Path) -> None:
    """Write base plus adapter as `target`; `weights_type` is one of WEIGHTS_TYPES. Raises BuildError."""
    pairs = {pair.tensor: pair for pair in adapter.pairs}
    types = {tensor.name: _type(tensor, pairs, WEIGHTS_TYPES[weights_type]) for tensor in head.tensors}
    content = mapped(base)
    with target.open("wb") as file:
        _write_head(file, head, content, types)
        for tensor in head.tensors:
            data = _data(tensor, head, content, base)
            pair = pairs.get(tensor.name)
            file.write(data if pair is None else _merged(data, tensor, pair, types[tensor.name]))
            file.write(bytes(-file.tell() % head.alignment))


def _type(tensor: Tensor, pairs: dict[str, Pair], wanted: GGMLQuantizationType) -> int:
    if tensor.name not in pairs:
        return tensor.type
    block, _ = GGML_QUANT_SIZES[wanted]
    return int(wanted if tensor.shape[0] % block == 0 else GGMLQuantizationType.F16)


def _write_head(file: BinaryIO, head: GgufHead, content: memoryview, types: dict[str, int]) -> None:
    file.write(MAGIC + struct.pack("<IQQ", head.version, len(head.tensors), head.key_count))
    file.write(content[head.keys_start : head.keys_end])
    offset = 0
    for tensor in head.tensors:
        name = tensor.name.encode()
        file.write(struct.pack("<Q", len(name)) + name)
        file.write(struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, types[tensor.name], offset))
        size = byte_size(tensor.shape, types[tensor.name])
        offset += size + -size % head.alignment
    file.write(bytes(-file.tell() % head.alignment))


def _data(tensor: Tensor, head: GgufHead, content: memoryview, base: Path) -> memoryview:
    start = head.data_start + tensor.offset
    data = content[start : start + byte_size(tensor.shape, tensor.type)]
    if len(data) < byte_size(tensor.shape, tensor.type):
        msg = f"{base}: it ends in the middle of tensor {tensor.name!r}"
        raise BuildError(msg, fix="fetch the file again")
    return data


def _merged(data: memoryview, tensor: Tensor, pair: Pair, kind: int) -> memoryview:
    try:
        weights = dequantized(data, tensor.type, tensor.shape[1])
    except (NotImplementedError, ValueError) as error:
        msg = f"tensor {tensor.name!r} of the base is {GGMLQuantizationType(tensor.type).name}, which can't be read"
        raise BuildError(msg, fix="use a base in Q8_0 or F16") from error
    weights += (np.float32(pair.scale) * pair.b) @ pair.a
    return quantized(weights, kind)
