"""GGUF's number formats: bytes <-> float32. Fast by libgguf where it has a wheel, else by llama.cpp's own gguf package: same bytes."""

from __future__ import annotations

import math

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from ollamake.lora.q8_0 import q8_0

try:
    import libgguf
except ImportError:  # no wheel for this machine: the same bytes, two to nine times slower
    libgguf = None

F32, F16, BF16, Q8_0 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0
# The value of each float16, by its bits: looking one up takes half the time of numpy's conversion.
_HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
_LEAST, _LARGE = 0x38800000, 0x477FF000  # bits of the float32 from which on a float16 is no subnormal, and of that which is rounded to infinity


def byte_size(shape: tuple[int, ...], kind: int) -> int:
    """Bytes that a tensor of this shape (columns first) takes in this type."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return math.prod(shape) // int(block) * int(size)


def dequantized(data: memoryview, kind: int, rows: int) -> NDArray[np.float32]:
    """The weights in these bytes, rows x columns. Raises NotImplementedError where the type can't be read."""
    wanted = GGMLQuantizationType(kind)
    if wanted is F32:
        return np.array(np.frombuffer(data, dtype=np.float32).reshape(rows, -1))
    if wanted is F16:
        bits = np.frombuffer(data, dtype=np.uint16).reshape(rows, -1)
        return np.asarray(np.take(_HALVES, bits, mode="clip"), dtype=np.float32)  # clip: any other mode looks at each index first
    if wanted is BF16:  # the upper half of a float32
        upper = np.frombuffer(data, dtype=np.uint16).reshape(rows, -1).astype(np.uint32)
        return np.asarray(np.left_shift(upper, 16, out=upper).view(np.float32))
    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    if libgguf is not None:
        return np.asarray(libgguf.dequantize_rows(blocks, kind))
    return np.asarray(gguf.dequantize(blocks, wanted)).reshape(rows, -1)


def quantized(weights: NDArray[np.float32], kind: int, importance: NDArray[np.float32] | None = None) -> memoryview:
    """The bytes of these weights, rows x columns; `importance`: of each column, where its errors shall weigh more or less.

    Raises NotImplementedError where the type can't be written.
    """
    wanted = GGMLQuantizationType(kind)
    if wanted is F32:
        return np.ascontiguousarray(weights, dtype=np.float32).data.cast("B")
    if wanted is F16:
        return _halves(weights).data.cast("B")
    if wanted is Q8_0 and (blocks := q8_0(weights)) is not None:
        return blocks.data.cast("B")
    if libgguf is None:
        if importance is not None:
            raise NotImplementedError
        return np.ascontiguousarray(gguf.quantize(weights, wanted)).data.cast("B")
    if importance is None and libgguf.quantize_requires_imatrix(kind):  # it would take the weights for their own importance
        raise NotImplementedError
    data = np.asarray(libgguf.quantize_rows(weights, kind, importance))
    return np.ascontiguousarray(data).view(np.uint8).data.cast("B")


def _halves(weights: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of these weights in float16, to the nearest, and of two as near to the even one: as numpy's own conversion, in half its time, or libgguf's."""
    bits = np.ascontiguousarray(weights).reshape(-1).view(np.uint32)
    size = bits & 0x7FFFFFFF
    half = size >> 13  # ten bits of the fraction stay
    half &= 1
    half += size
    half += 0xC8000FFF  # 112 less of the exponent, and so much that what is cut off rounds
    half >>= 13
    sign = bits >> 16
    sign &= 0x8000
    half |= sign
    halves = half.astype(np.uint16)
    others = np.flatnonzero(size - _LEAST >= _LARGE - _LEAST)
    if others.size:
        with np.errstate(over="ignore", invalid="ignore"):
            halves[others] = bits[others].view(np.float32).astype(np.float16).view(np.uint16)
    return halves.reshape(weights.shape)
