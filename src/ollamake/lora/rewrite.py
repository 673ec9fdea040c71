"""A GGUF written anew: the keys of another, and its tensors with other data, each in the type that is wanted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import MAGIC, GgufHead, Tensor
from ollamake.lora.quants import byte_size, dequantized


def write_gguf(
    head: GgufHead, keys: bytes | memoryview, types: Mapping[str, int], data: Callable[[Tensor], bytes | memoryview], target: Path
) -> None:
    """Write `target` with the tensors of this head, in their order, and these bytes as its keys.

    `types` has the type of each tensor, and `data` its bytes in that; it is asked for one after the other. What it raises ends the writing.
    """
    with target.open("wb") as file:
        _write_head(file, head, keys, types)
        for tensor in head.tensors:
            file.write(data(tensor))
            file.write(bytes(-file.tell() % head.alignment))


def tensor_data(tensor: Tensor, head: GgufHead, content: memoryview, path: Path) -> memoryview:
    """The tensor's bytes in the file with this content; `path` is for the message. Raises BuildError where they are not all there."""
    start, size = head.data_start + tensor.offset, byte_size(tensor.shape, tensor.type)
    data = content[start : start + size]
    if len(data) < size:
        msg = f"{path}: it ends in the middle of tensor {tensor.name!r}"
        raise BuildError(msg, fix="fetch the file again")
    return data


def tensor_weights(tensor: Tensor, data: memoryview) -> NDArray[np.float32]:
    """The numbers in a base's tensor, rows x columns. Raises BuildError where its type can't be read."""
    try:
        return dequantized(data, tensor.type, prod(tensor.shape[1:]))
    except (NotImplementedError, ValueError) as error:
        msg = f"tensor {tensor.name!r} of the base is {GGMLQuantizationType(tensor.type).name}, which can't be read"
        raise BuildError(msg, fix="use a base in Q8_0 or F16") from error


def _write_head(file: BinaryIO, head: GgufHead, keys: bytes | memoryview, types: Mapping[str, int]) -> None:
    file.write(MAGIC + struct.pack("<IQQ", head.version, len(head.tensors), head.key_count))
    file.write(keys)
    offset = 0
    for tensor in head.tensors:
        name = tensor.name.encode()
        file.write(struct.pack("<Q", len(name)) + name)
        file.write(struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, types[tensor.name], offset))
        size = byte_size(tensor.shape, types[tensor.name])
        offset += size + -size % head.alignment
    file.write(bytes(-file.tell() % head.alignment))
