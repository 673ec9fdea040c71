"""Weights that were trained whole, as a GGUF, checked against their base and written as that is served.

Of such a file nothing is taken but its tensors. What llama-finetune writes has the length of its windows for the model's context, and no chat template;
so the keys are the base's own, byte for byte, as are the tensors that the training left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, Tensor, mapped, parse_head
from ollamake.lora.merge import changed_type
from ollamake.lora.quants import byte_size, quantized
from ollamake.lora.rewrite import tensor_data, tensor_weights, write_gguf

FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


class WholeWeights:
    """A GGUF with a weight for each of its base's, all of them numbers."""

    def __init__(self, path: Path, base: GgufHead) -> None:
        """Read the file. Raises BuildError with every fault."""
        self.path = path
        self._content = mapped(path)
        self._head = parse_head(self._content, path)
        self._tensors = {tensor.name: tensor for tensor in self._head.tensors}
        faults = [*self._faults(base)]
        if faults:
            raise BuildError("\n".join(f"{path}: {fault}" for fault in faults), fix="train it again, on the base that it is served from")

    def weights(self, name: str) -> NDArray[np.float32]:
        """A tensor, rows x columns."""
        tensor = self._tensors[name]
        return tensor_weights(tensor, tensor_data(tensor, self._head, self._content, self.path))

    def _faults(self, base: GgufHead) -> Iterator[str]:
        if self._head.architecture != base.architecture:
            yield f"its architecture is {self._head.architecture!r}, and that of the base {base.architecture!r}"
            return
        wanted = {tensor.name: tensor for tensor in base.tensors}
        yield from (f"it has no tensor {name!r}, as the base has" for name in wanted.keys() - self._tensors.keys())
        yield from (f"the base has no tensor {name!r}" for name in self._tensors.keys() - wanted.keys())
        for name, tensor in self._tensors.items():
            fault = self._fault(tensor, wanted[name]) if name in wanted else None
            if fault is not None:
                yield f"tensor {name!r} {fault}"

    def _fault(self, tensor: Tensor, wanted: Tensor) -> str | None:
        if tensor.shape != wanted.shape:
            return f"is {_size(tensor)}, where that of the base is {_size(wanted)}"
        if tensor.type not in FLOATS:
            return f"is {GGMLQuantizationType(tensor.type).name}, not of floats"
        start = self._head.data_start + tensor.offset
        if start + byte_size(tensor.shape, tensor.type) > len(self._content):
            return "is not whole: the file ends in it"
        return None if np.isfinite(self.weights(tensor.name)).all() else "holds NaN or infinite numbers"


def write_whole_gguf(base: Path, head: GgufHead, weights: WholeWeights, weights_type: str, target: Path) -> None:
    """Write the model that is served as `target`: matrices that were trained in `weights_type` (merge.WEIGHTS_TYPES), the rest in float32.

    `head` is that of the base. Raises BuildError where a tensor of the base can't be read.
    """
    content = mapped(base)
    left_alone = {tensor.name for tensor in head.tensors if _is_same(tensor, tensor_data(tensor, head, content, base), weights)}
    types = {tensor.name: tensor.type if tensor.name in left_alone else _type(tensor, weights_type) for tensor in head.tensors}

    def data_of(tensor: Tensor) -> memoryview:
        if tensor.name in left_alone:
            return tensor_data(tensor, head, content, base)
        return quantized(weights.weights(tensor.name), types[tensor.name])

    write_gguf(head, content[head.keys_start : head.keys_end], types, data_of, target)


def _is_same(tensor: Tensor, data: memoryview, weights: WholeWeights) -> bool:
    return np.array_equal(tensor_weights(tensor, data), weights.weights(tensor.name))


def _type(tensor: Tensor, weights_type: str) -> int:
    return changed_type(tensor, weights_type) if len(tensor.shape) > 1 else int(GGMLQuantizationType.F32)


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, reversed(tensor.shape)))
