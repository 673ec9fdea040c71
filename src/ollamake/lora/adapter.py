"""A LoRA adapter, whatever kind of file it came in, as pairs of matrices for tensors of its base's GGUF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ollamake.lora.architecture import Architecture
from ollamake.lora.verdict import REFUSED, WARNING, Verdict, of_kind, raise_refused

Matrix = NDArray[np.float32]
Named = tuple[str, Matrix]  # a tensor, with the name that its file gives it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The LoRA of one tensor of the base: delta = scale * b @ a, its rows in the order of the GGUF."""

    tensor: str  # of the GGUF: blk.0.attn_q.weight
    a: Matrix  # rank x columns
    b: Matrix  # rows x rank
    scale: float

    @property
    def rank(self) -> int:
        """The LoRA's inner dimension."""
        return int(self.a.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraAdapter:
    """A checked adapter."""

    alpha: float  # that it was trained with; of a pair, what counts is its scale
    pairs: tuple[Pair, ...]  # in the order of the base's tensors
    warnings: tuple[Verdict, ...] = ()  # what is to be said of it when it is served


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """An adapter's files, held against a base."""

    verdicts: tuple[Verdict, ...]  # all that were found
    alpha: float
    pairs: tuple[Pair, ...]  # of what is carried

    def adapter(self, architecture: Architecture) -> LoraAdapter:
        """The adapter, its pairs in the base's order. Raises BuildError with everything that is refused."""
        raise_refused(self.verdicts)
        found = {pair.tensor: pair for pair in self.pairs}
        pairs = tuple(found[tensor.name] for tensor in architecture.head.tensors if tensor.name in found)
        return LoraAdapter(alpha=self.alpha, pairs=pairs, warnings=of_kind(WARNING, self.verdicts))


def zero_verdicts(pairs: Mapping[str, Pair], file: str) -> Iterator[Verdict]:
    """Which of these layers' LoRAs, by the name that the file gives to one of each one's tensors, do nothing: refused where none does anything."""
    idle = [name for name, pair in pairs.items() if not (pair.a.any() and pair.b.any())]
    if idle and len(idle) == len(pairs):
        text = f"tensor {idle[0]!r}{' and all others' if len(pairs) > 1 else ''}: A or B holds zeros alone, so the adapter does nothing"
        yield Verdict(kind=REFUSED, what=idle[0], text=text, file=file, fix="train it: B begins with zeros, and is still what it began with")
        return
    for name in idle:
        yield Verdict(kind=WARNING, what=name, text=f"tensor {name!r}: A or B holds zeros alone, so the layer is the base's own", file=file)


def side_fault(sides: Mapping[str, Named], a: str, b: str) -> str | None:
    """What is wrong where one of a pair's two sides, by these names, is not there."""
    for side, other in ((a, b), (b, a)):
        if side not in sides:
            return f"tensor {sides[other][0]!r} has no {side} beside it"
    return None


def shape_fault(a: Named, b: Named, tensor: str, shape: tuple[int, ...]) -> str | None:
    """What is wrong with a pair for this tensor of the base, whose shape is (columns, rows)."""
    (name_a, left), (name_b, right), (columns, rows) = a, b, shape
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != columns or right.shape[0] != rows or left.shape[0] != right.shape[1]:
        return f"tensors {name_a!r} {list(left.shape)} and {name_b!r} {list(right.shape)} do not fit {tensor} of the base, {rows} x {columns}"
    rank = left.shape[0]
    if not 0 < rank <= min(rows, columns):
        return f"tensor {name_a!r} has rank {rank}, where {tensor} of the base, {rows} x {columns}, takes 1 to {min(rows, columns)}"
    return None
