"""What is to become of a base: which of its tensors get other weights, which, and in what types those are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.adapter import LoraAdapter
from ollamake.lora.gguf_file import GgufHead, Tensor
from ollamake.lora.in_order import Piece, Work
from ollamake.lora.quants import quantized
from ollamake.lora.rewrite import Layout, write_gguf
from ollamake.lora.tensor_file import TensorFile, row_blocks

KEEP = "keep"  # the type that the tensor has in the base
WEIGHTS_TYPES = {
    "q8_0": GGMLQuantizationType.Q8_0,
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q6_k": GGMLQuantizationType.Q6_K,
    "q5_k": GGMLQuantizationType.Q5_K,
    "q4_k": GGMLQuantizationType.Q4_K,
}
_INSTEAD = (GGMLQuantizationType.Q8_0, GGMLQuantizationType.F16)  # of a type whose blocks the columns do not fill

Importance = Mapping[str, NDArray[np.float32]]  # name of a tensor -> how much the errors of each of its columns count


class Changes(Protocol):
    """Other weights for tensors of a base."""

    @property
    def names(self) -> frozenset[str]:
        """The tensors that get others; all the rest stay as they are, byte for byte."""

    def weights(self, tensor: Tensor, first: int, rows: int, base: TensorFile) -> NDArray[np.float32]:
        """The new weights of these rows of one of them; asked for by several threads."""


class LoraSum:
    """The base's own weights plus what a LoRA learned."""

    def __init__(self, adapter: LoraAdapter) -> None:
        """Of this adapter."""
        self._pairs = {pair.tensor: (np.float32(pair.scale) * pair.b, pair.a) for pair in adapter.pairs}

    @property
    def names(self) -> frozenset[str]:
        """The tensors with a pair."""
        return frozenset(self._pairs)

    def weights(self, tensor: Tensor, first: int, rows: int, base: TensorFile) -> NDArray[np.float32]:
        """The base's, dequantized and added to."""
        b, a = self._pairs[tensor.name]
        weights = base.weights(tensor, first, rows)
        weights += b[first : first + rows] @ a
        return weights


UNCHANGED = LoraSum(LoraAdapter(alpha=1.0, pairs=()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How changed tensors are written."""

    weights_type: str = "q8_0"  # one of WEIGHTS_TYPES, or KEEP
    importance: Importance = field(default_factory=dict)

    def type_of(self, tensor: Tensor) -> int:
        """The type in which a changed tensor of the base is written. Vectors are always float32: they are small, and servers want them so."""
        if len(tensor.shape) == 1:
            return int(GGMLQuantizationType.F32)
        wanted = GGMLQuantizationType(tensor.type) if self.weights_type == KEEP else WEIGHTS_TYPES[self.weights_type]
        return int(next(kind for kind in (wanted, *_INSTEAD) if tensor.shape[0] % GGML_QUANT_SIZES[kind][0] == 0))

    def data(self, tensor: Tensor, weights: NDArray[np.float32]) -> memoryview:
        """These weights in the type of a tensor that is written. Raises BuildError where there is no way to write it."""
        try:
            return quantized(weights, tensor.type, self.importance.get(tensor.name))
        except (NotImplementedError, ValueError) as error:
            kind = GGMLQuantizationType(tensor.type).name
            msg = f"tensor {tensor.name!r} can't be written as {kind}{'' if tensor.name in self.importance else ' without an importance matrix'}"
            raise BuildError(msg, fix="write `weights_type: q8_0` in the model's `serve:`") from error


def changed_types(head: GgufHead, changes: Changes, form: Form) -> dict[str, int]:
    """The types in which the changed tensors are written, by name."""
    return {tensor.name: form.type_of(tensor) for tensor in head.tensors if tensor.name in changes.names}


def write_changed(layout: Layout, base: TensorFile, changes: Changes, form: Form, target: Path) -> str:
    """Write the tensors of this layout: changed ones in the type that it says, the others byte for byte. Returns the file's digest. Raises BuildError."""
    old = {tensor.name: tensor for tensor in base.head.tensors}

    def data(tensor: Tensor) -> Iterator[Piece]:
        if tensor.name not in changes.names:
            yield from base.pieces(old[tensor.name])
            return
        for first, rows in row_blocks(tensor):
            yield Work(made, tensor, first, rows)

    def made(tensor: Tensor, first: int, rows: int) -> memoryview:
        return form.data(tensor, changes.weights(old[tensor.name], first, rows, base))

    return write_gguf(layout, data, target)
