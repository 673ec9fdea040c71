"""Weights that were trained whole, as a GGUF, checked against their base and written as that is served.

Of such a file nothing is taken but its tensors. What llama-finetune writes has the length of its windows for the model's context, and no chat template;
so the keys are the base's own, byte for byte, as are the tensors that the training left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, Tensor, read_head
from ollamake.lora.quants import byte_size
from ollamake.lora.tensor_file import TensorFile, row_blocks

FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


class WholeWeights:
    """A GGUF with a weight for each of its base's, all of them numbers."""

    def __init__(self, path: Path, base: GgufHead) -> None:
        """Read the file. Raises BuildError with every fault."""
        self.path = path
        self.head = read_head(path)
        self.tensors = {tensor.name: tensor for tensor in self.head.tensors}
        faults = [*self._faults(base)]
        if faults:
            raise BuildError("\n".join(f"{path}: {fault}" for fault in faults), fix="train it again, on the base that it is served from")

    def _faults(self, base: GgufHead) -> Iterator[str]:
        if self.head.architecture != base.architecture:
            yield f"its architecture is {self.head.architecture!r}, and that of the base {base.architecture!r}"
            return
        wanted = {tensor.name: tensor for tensor in base.tensors}
        yield from (f"it has no tensor {name!r}, as the base has" for name in wanted.keys() - self.tensors.keys())
        yield from (f"the base has no tensor {name!r}" for name in self.tensors.keys() - wanted.keys())
        size = self.path.stat().st_size
        with TensorFile(self.path, self.head, is_checked=False) as file:
            for name, tensor in self.tensors.items():
                fault = self._fault(tensor, wanted[name], file, size) if name in wanted else None
                if fault is not None:
                    yield f"tensor {name!r} {fault}"

    def _fault(self, tensor: Tensor, wanted: Tensor, file: TensorFile, size: int) -> str | None:
        if tensor.shape != wanted.shape:
            return f"is {_size(tensor)}, where that of the base is {_size(wanted)}"
        if tensor.type not in FLOATS:
            return f"is {GGMLQuantizationType(tensor.type).name}, not of floats"
        if self.head.data_start + tensor.offset + byte_size(tensor.shape, tensor.type) > size:
            return "is not whole: the file ends in it"
        is_finite = all(np.isfinite(file.weights(tensor, first, rows)).all() for first, rows in row_blocks(tensor))
        return None if is_finite else "holds NaN or infinite numbers"


class TrainedWeights:
    """The weights of a whole model in the place of its base's, where they are others."""

    def __init__(self, weights: WholeWeights, file: TensorFile, base: TensorFile) -> None:
        """`file`: that of the weights."""
        self._tensors, self._file = weights.tensors, file
        self.names = frozenset(tensor.name for tensor in base.head.tensors if not self._is_same(tensor, base))

    def weights(self, tensor: Tensor, first: int, rows: int, base: TensorFile) -> NDArray[np.float32]:
        """Those that were trained."""
        del base
        return self._file.weights(self._tensors[tensor.name], first, rows)

    def _is_same(self, tensor: Tensor, base: TensorFile) -> bool:
        return all(np.array_equal(base.weights(tensor, *block), self.weights(tensor, *block, base)) for block in row_blocks(tensor))


@contextmanager
def trained_weights(base: Path, head: GgufHead, weights: WholeWeights) -> Iterator[TrainedWeights]:
    """The weights as changes of their base, whose head this is. Raises BuildError where a tensor of the base can't be read."""
    with TensorFile(base, head) as old, TensorFile(weights.path, weights.head) as new:
        yield TrainedWeights(weights, new, old)


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, reversed(tensor.shape)))
