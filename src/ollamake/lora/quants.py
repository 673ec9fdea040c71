"""GGUF's number formats: bytes <-> float32. Fast by libgguf where it has a wheel, else by llama.cpp's own gguf package: same bytes."""

from __future__ import annotations

import math

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

try:
    import libgguf
except ImportError:  # no wheel for this machine: the same bytes, two to nine times slower
    libgguf = None

_FLOATS = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}


def byte_size(shape: tuple[int, ...], kind: int) -> int:
    """Bytes that a tensor of this shape (columns first) takes in this type."""
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return math.prod(shape) // int(block) * int(size)


def dequantized(data: memoryview, kind: int, rows: int) -> NDArray[np.float32]:
    """The weights in these bytes, rows x columns. Raises NotImplementedError where the type can't be read."""
    wanted = GGMLQuantizationType(kind)
    if wanted in _FLOATS:
        return np.frombuffer(data, dtype=_FLOATS[wanted]).reshape(rows, -1).astype(np.float32)
    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)
    if libgguf is not None and wanted is not GGMLQuantizationType.BF16:
        return np.asarray(libgguf.dequantize_rows(blocks, kind))
    return np.asarray(gguf.dequantize(blocks, wanted)).reshape(rows, -1)


def quantized(weights: NDArray[np.float32], kind: int) -> memoryview:
    """The bytes of these weights, rows x columns."""
    wanted = GGMLQuantizationType(kind)
    if libgguf is not None and wanted not in _FLOATS:
        data = libgguf.quantize_rows(weights, kind)
    else:
        data = gguf.quantize(weights, wanted)
    return np.ascontiguousarray(data).data.cast("B")
