"""An importance matrix of llama.cpp's llama-imatrix: how much the errors of each of a tensor's columns count, when it is quantized."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ollamake.errors import BuildError
from ollamake.lora.changes import Importance
from ollamake.lora.gguf_file import GgufHead

try:
    import libgguf
except ImportError:
    libgguf = None

_FIX = "make it of this base with llama.cpp's llama-imatrix, or remove `imatrix` from the model's `serve:`"


def read_importance(path: Path, base: GgufHead) -> Importance:
    """What the file says of tensors of this base; both of llama.cpp's formats are read, GGUF and .dat. Raises BuildError."""
    if libgguf is None:
        msg = f"{path}: libgguf, which takes importance matrices, has no wheel for this machine"
        raise BuildError(msg, fix="remove `imatrix` from the model's `serve:`")
    try:
        found = libgguf.load_imatrix(path)
    except OSError as error:
        msg = f"{path}: can't be read: {error.strerror}"
        raise BuildError(msg, fix="put it there") from error
    except (ValueError, struct.error, MemoryError, OverflowError) as error:
        msg = f"{path}: not an importance matrix: {error}"
        raise BuildError(msg, fix=_FIX) from error
    columns = {tensor.name: tensor.shape[0] for tensor in base.tensors if len(tensor.shape) == 2}
    importance = {name: numbers for name, numbers in found.items() if name in columns}
    faults = [] if importance else ["it is of no tensor that the base has"]
    for name, numbers in importance.items():
        if len(numbers) != columns[name]:
            faults.append(f"tensor {name!r} has {len(numbers)} columns, where that of the base has {columns[name]}")
        elif not np.isfinite(numbers).all() or (numbers < 0).any():
            faults.append(f"tensor {name!r} holds negative, NaN or infinite numbers")
    if faults:
        raise BuildError("\n".join(f"{path}: {fault}" for fault in faults), fix=_FIX)
    return importance
