"""The base as a GGUF with all of its weights in float32, for programs of llama.cpp that train: they have no gradients of quantized weights."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from math import prod
from pathlib import Path

from gguf import GGMLQuantizationType

from ollamake.bases.kept import kept_folder
from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, Tensor, mapped, read_head
from ollamake.lora.in_order import Piece, Work
from ollamake.lora.quants import quantized
from ollamake.lora.rewrite import layout_of, write_gguf
from ollamake.lora.tensor_file import TensorFile, row_blocks
from ollamake.records.stand_ins import stand_in
from ollamake.records.tokens import CONTROL, USER_DEFINED

FORM = "float-gguf"
VERSION = 1  # of the file's form: those of earlier ones are made again
NAME = "base.gguf"
F32 = int(GGMLQuantizationType.F32)
_ALL_F32 = 0  # llama.cpp's file type
_TYPE, _COUNT = 4, 8  # bytes of a value's type, and of a length
_UINT32 = 4  # the type


def float_gguf(gguf: Path, digest: str, cache: Path) -> Path:
    """The base in this GGUF file in float32, made in `cache` where it is not there yet; `digest` is that of the GGUF.

    Its control tokens are user-defined, and have other names (records.stand_ins): it is trained, and never served. All else of its keys is as it was.
    Raises BuildError where a weight can't be read, or the disk has no room.
    """
    base = _Base(gguf)
    return kept_folder(cache, digest, FORM, VERSION, size=base.size, make=base.write) / NAME


class _Base:
    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _head(self) -> GgufHead:
        return read_head(self.path, with_arrays=True)

    def size(self) -> int:
        """Bytes that the file will take."""
        return self._head.data_start + sum(4 * prod(tensor.shape) + self._head.alignment for tensor in self._head.tensors)

    def write(self, folder: Path) -> None:
        head, content = self._head, mapped(self.path)

        old = {tensor.name: tensor for tensor in head.tensors}
        with TensorFile(self.path, head) as file:

            def made(tensor: Tensor, first: int, rows: int) -> memoryview:
                return quantized(file.weights(tensor, first, rows), F32)

            def data(tensor: Tensor) -> Iterator[Piece]:
                return (Work(made, old[tensor.name], *block) for block in row_blocks(tensor))

            write_gguf(layout_of(head, self._keys(content), dict.fromkeys(old, F32)), data, folder / NAME)

    def _keys(self, content: memoryview) -> bytes:
        """The base's keys, byte for byte but for the type of its weights, and the types and names of its control tokens."""
        head = self._head
        keys = bytearray(content[head.keys_start : head.keys_end])
        place = head.places.get("general.file_type")
        if place is not None and struct.unpack_from("<I", content, place)[0] == _UINT32:
            struct.pack_into("<I", keys, place - head.keys_start + _TYPE, _ALL_F32)
        tokens, types = (head.keys.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
        if not isinstance(tokens, list) or not isinstance(types, list):
            return bytes(keys)
        if len(tokens) != len(types):
            msg = f"{self.path}: it has {len(tokens)} tokens, and types of {len(types)}"
            raise BuildError(msg, fix="use a base that was written by llama.cpp's converter")
        at = head.places["tokenizer.ggml.tokens"] - head.keys_start + 2 * _TYPE + _COUNT
        type_at = head.places["tokenizer.ggml.token_type"] - head.keys_start + 2 * _TYPE + _COUNT
        for number, token in enumerate(tokens):
            size = len(token.encode())
            name = stand_in(token) if types[number] == CONTROL else None
            if name is not None:
                keys[at + _COUNT : at + _COUNT + size] = name.encode()
                struct.pack_into("<i", keys, type_at + 4 * number, USER_DEFINED)
            at += _COUNT + size
        return bytes(keys)
