"""A GGUF file whose tensors are read row by row, or a few rows at once: no more of it is in memory than is asked for.

Why it is not mapped: pages that are mapped are counted as the process's own, and here each costs a fault, which is four times the time of a read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, Tensor
from ollamake.lora.in_order import Piece
from ollamake.lora.quants import byte_size
from ollamake.lora.rewrite import tensor_weights

PIECE = 1 << 20  # bytes that are copied at once
BLOCK = 1 << 18  # weights that one thread makes at once: with what they are made of they fit into a core's cache


class TensorFile:
    """An open GGUF file, for any number of threads."""

    def __init__(self, path: Path, head: GgufHead, *, is_checked: bool = True) -> None:
        """Open it. Raises BuildError where it can't be read, or, `is_checked`, does not hold all of its tensors."""
        self.path, self.head = path, head
        self._lock = Lock()
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            msg = f"{path}: can't be read: {error.strerror}"
            raise BuildError(msg) from error
        size = path.stat().st_size
        for tensor in head.tensors if is_checked else ():
            if self._start(tensor) + byte_size(tensor.shape, tensor.type) > size:
                self._file.close()
                raise self._ends_in(tensor)

    def __enter__(self) -> TensorFile:
        """The file itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close it."""
        self._file.close()

    def pieces(self, tensor: Tensor) -> Iterator[Piece]:
        """The tensor's bytes, as they are."""
        size = byte_size(tensor.shape, tensor.type)
        return (partial(self._read, tensor, at, min(PIECE, size - at)) for at in range(0, size, PIECE))

    def data(self, tensor: Tensor, first: int, rows: int) -> memoryview:
        """The bytes of these rows."""
        size = byte_size(tensor.shape[:1], tensor.type)
        return self._read(tensor, first * size, rows * size)

    def weights(self, tensor: Tensor, first: int, rows: int) -> NDArray[np.float32]:
        """The numbers of these rows. Raises BuildError where the tensor's type can't be read."""
        return tensor_weights(tensor, self.data(tensor, first, rows), rows)

    def _start(self, tensor: Tensor) -> int:
        return self.head.data_start + tensor.offset

    def _read(self, tensor: Tensor, at: int, size: int) -> memoryview:
        data = np.empty(size, dtype=np.uint8).data  # not cleared, as a bytearray is
        done = 0
        with self._lock:
            self._file.seek(self._start(tensor) + at)
            while done < size:
                count = self._file.readinto(data[done:])
                if not count:
                    raise self._ends_in(tensor)
                done += count
        return data

    def _ends_in(self, tensor: Tensor) -> BuildError:
        return BuildError(f"{self.path}: it ends in the middle of tensor {tensor.name!r}", fix="fetch the file again")


def row_blocks(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """The tensor's rows, some at once: the first of them, and how many. A vector has one row."""
    rows, at_once = prod(tensor.shape[1:]), max(1, BLOCK // max(1, tensor.shape[0]))
    return ((first, min(at_once, rows - first)) for first in range(0, rows, at_once))
