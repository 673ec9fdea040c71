"""A GGUF's tensors as transformers' model.safetensors, one after the other, in pieces: a base may be larger than the memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.bases.hf_config import INSTEAD
from ollamake.errors import BuildError
from ollamake.lora.architecture import Architecture
from ollamake.lora.gguf_file import Tensor, mapped
from ollamake.lora.quants import byte_size, dequantized
from ollamake.lora.rewrite import tensor_data, tensor_weights

LARGE = 2_000_000_000  # parameters from which float32 would fill a disk and a memory that bfloat16 does not
PIECE = 1 << 24
F32, F16, BF16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16
NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16"}  # as config.json has them
_SIZES = {F32: 4, F16: 2, BF16: 2}  # bytes
_ROPE = "rope_freqs.weight"  # the only tensor that is no weight of transformers' model: its config has what is in it
_LAYER = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    *("input_layernorm", "post_attention_layernorm"),
)


@dataclass(frozen=True)
class Weights:
    """The weights of the base in a GGUF file, and how they are written."""

    path: Path  # of the GGUF
    architecture: Architecture
    large: int = LARGE  # parameters
    piece: int = PIECE  # weights that are in memory at once, but for a matrix whose rows change places

    @property
    def dtype(self) -> str:
        """What most of the weights are, as config.json has it."""
        kinds = {self._kind(tensor) for tensor in self.architecture.head.tensors if len(tensor.shape) > 1}
        return NAMES[kinds.pop()] if len(kinds) == 1 else NAMES[self._widest()]

    @property
    def size(self) -> int:
        """Bytes of the safetensors file, but for its head."""
        return sum(math.prod(tensor.shape) * _SIZES[self._kind(tensor)] for tensor in self.architecture.head.tensors)

    def rope_factors(self) -> NDArray[np.float32] | None:
        """What Llama 3 divides the frequencies of its rotated pairs by, where the base has that."""
        for tensor in self.architecture.head.tensors:
            if tensor.name == _ROPE:
                data = tensor_data(tensor, self.architecture.head, mapped(self.path), self.path)
                return dequantized(data, tensor.type, 1).reshape(-1)
        return None

    def write(self, target: Path) -> None:
        """Write them all, in the order of the GGUF. Raises BuildError where the GGUF holds others than transformers' Llama has."""
        modules = self._modules()
        head: dict[str, object] = {"__metadata__": {"format": "pt"}}
        place = 0
        for tensor, module in modules:
            kind = self._kind(tensor)
            end = place + math.prod(tensor.shape) * _SIZES[kind]
            head[f"{module}.weight"] = {"dtype": kind.name, "shape": tensor.shape[::-1], "data_offsets": [place, end]}
            place = end
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        content = mapped(self.path)
        with target.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor, _ in modules:
                file.writelines(self._written(tensor, content))

    def _modules(self) -> list[tuple[Tensor, str]]:
        """Each tensor with transformers' name of its module."""
        layers = range(self.architecture.head.count("block_count"))
        modules = ["model.embed_tokens", "model.norm", *(f"model.layers.{layer}.{name}" for layer in layers for name in _LAYER), "lm_head"]
        by_tensor = {self.architecture.stored(module): module for module in modules}
        tensors = self.architecture.head.tensors
        missing = by_tensor.keys() - {tensor.name for tensor in tensors} - {"output.weight"}  # without an own output, the embedding is it
        if missing:
            msg = f"{self.path}: it has no tensor {min(map(str, missing))!r}"
            raise BuildError(msg, fix=INSTEAD)
        for tensor in tensors:
            if tensor.name not in by_tensor and tensor.name != _ROPE:
                msg = f"{self.path}: tensor {tensor.name!r} is none that is known here"
                raise BuildError(msg, fix=INSTEAD)
        return [(tensor, by_tensor[tensor.name]) for tensor in tensors if tensor.name != _ROPE]

    def _widest(self) -> GGMLQuantizationType:
        count = sum(math.prod(tensor.shape) for tensor in self.architecture.head.tensors)
        return F32 if count <= self.large else BF16

    def _kind(self, tensor: Tensor) -> GGMLQuantizationType:
        """What the tensor is written as."""
        if tensor.type in {F16, BF16}:
            return GGMLQuantizationType(tensor.type)
        return F32 if len(tensor.shape) == 1 else self._widest()

    def _written(self, tensor: Tensor, content: memoryview) -> Iterator[memoryview]:
        """The tensor's bytes as they are written, in pieces of whole rows; one whose rows change places is one piece."""
        data = tensor_data(tensor, self.architecture.head, content, self.path)
        rows = math.prod(tensor.shape[1:])
        step = rows if self.architecture.permutes(tensor.name) else max(1, self.piece // tensor.shape[0])
        for first in range(0, rows, step):
            part = replace(tensor, shape=(tensor.shape[0], min(step, rows - first)))
            start = byte_size((tensor.shape[0], first), tensor.type)
            yield self._piece(part, data[start : start + byte_size(part.shape, part.type)], self._kind(tensor))

    def _piece(self, tensor: Tensor, data: memoryview, kind: GGMLQuantizationType) -> memoryview:
        if tensor.type in {F16, BF16}:
            halves = np.frombuffer(data, dtype=np.uint16).reshape(tensor.shape[1], -1)
            return self.architecture.in_model_order(tensor.name, halves).data.cast("B")
        weights = self.architecture.in_model_order(tensor.name, tensor_weights(tensor, data))
        return (_bfloat16(weights) if kind is BF16 else np.ascontiguousarray(weights)).data.cast("B")


def _bfloat16(weights: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves, rounded to the nearest, and to the even one of two."""
    bits = np.ascontiguousarray(weights).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
