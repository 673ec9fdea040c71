"""A GGUF written anew: the keys of another, and its tensors with other data, each in the type that is wanted."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import MAGIC, GgufHead, Tensor
from ollamake.lora.in_order import Piece, write_in_order
from ollamake.lora.quants import byte_size, dequantized


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All of a GGUF file that is written, but the tensors' data."""

    version: int
    alignment: int  # bytes
    key_count: int
    keys: bytes | memoryview
    tensors: tuple[Tensor, ...]  # in their order, each with the type that it is written in; where it lies is found here


def layout_of(head: GgufHead, keys: bytes | memoryview, types: Mapping[str, int]) -> Layout:
    """The layout with the tensors of this head, in their order; `keys`: as many as the head has, `types`: those that are others than the head's."""
    tensors = tuple(replace(tensor, type=types.get(tensor.name, tensor.type)) for tensor in head.tensors)
    return Layout(version=head.version, alignment=head.alignment, key_count=head.key_count, keys=keys, tensors=tensors)


def write_gguf(layout: Layout, data: Callable[[Tensor], Iterable[Piece]], target: Path) -> str:
    """Write `target`, and return its digest. `data` gives the pieces of each tensor, in the type that the layout says. What they raise ends the writing."""

    def pieces() -> Iterator[Piece]:
        head = _head(layout)
        yield lambda: head
        for tensor in layout.tensors:
            yield from data(tensor)
            padding = -byte_size(tensor.shape, tensor.type) % layout.alignment
            if padding:
                yield partial(bytes, padding)

    return write_in_order(pieces(), target)


def tensor_data(tensor: Tensor, head: GgufHead, content: memoryview, path: Path) -> memoryview:
    """The tensor's bytes in the file with this content; `path` is for the message. Raises BuildError where they are not all there."""
    start, size = head.data_start + tensor.offset, byte_size(tensor.shape, tensor.type)
    data = content[start : start + size]
    if len(data) < size:
        msg = f"{path}: it ends in the middle of tensor {tensor.name!r}"
        raise BuildError(msg, fix="fetch the file again")
    return data


def tensor_weights(tensor: Tensor, data: memoryview, rows: int | None = None) -> NDArray[np.float32]:
    """The numbers in a base's tensor, or in so many of its rows; rows x columns. Raises BuildError where its type can't be read."""
    try:
        return dequantized(data, tensor.type, prod(tensor.shape[1:]) if rows is None else rows)
    except (NotImplementedError, ValueError) as error:
        msg = f"tensor {tensor.name!r} of the base is {GGMLQuantizationType(tensor.type).name}, which can't be read"
        raise BuildError(msg, fix="use a base in Q8_0 or F16") from error


def _head(layout: Layout) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", layout.version, len(layout.tensors), layout.key_count), bytes(layout.keys)]
    offset = 0
    for tensor in layout.tensors:
        name = tensor.name.encode()
        parts.append(struct.pack("<Q", len(name)) + name)
        parts.append(struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, tensor.type, offset))
        size = byte_size(tensor.shape, tensor.type)
        offset += size + -size % layout.alignment
    parts.append(bytes(-sum(map(len, parts)) % layout.alignment))
    return b"".join(parts)
