"""A file that is written in pieces, each made in a thread of its own: what is made later is written later.

numpy, libgguf and hashlib let go of Python's lock while they work, so that pieces are worked out, digested and written at the same time. Few are in memory
at once.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

Data: TypeAlias = bytes | memoryview
Piece: TypeAlias = Callable[[], Data]  # the bytes of a piece of the file, which are only read


class Work(partial[Data]):
    """A piece that has to be worked out: that is done in a thread of its own, before it is its turn."""


MOST_THREADS = 4  # that make pieces; more of them wait for the one that writes
AHEAD = 16
# glibc gives memory back to the system at once, and has every page of it cleared when it is asked for again, unless it has seen larger pieces freed.
_KEPT = 1 << 24  # bytes


def write_in_order(pieces: Iterable[Piece], target: Path) -> str:
    """Write the file, and return its digest, which is taken on the way. What a piece raises ends the writing; a part of the file is left then."""
    np.empty(_KEPT, dtype=np.uint8)  # and freed at once
    making = ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS))
    digesting = ThreadPoolExecutor(1)
    digest = hashlib.sha256()
    made: deque[Piece] = deque()
    digested: deque[Future[None]] = deque()

    def write(file: BinaryIO) -> None:
        data = made.popleft()()
        digested.append(digesting.submit(digest.update, data))
        _write_all(file, data)
        if len(digested) > AHEAD:
            digested.popleft().result()

    try:
        # numpy's BLAS would start threads of its own in each of ours, which spend their time waiting for each other: twice as long on two cores.
        with threadpool_limits(1, user_api="blas"), target.open("wb", buffering=0) as file:
            for piece in pieces:
                made.append(making.submit(piece).result if isinstance(piece, Work) else piece)
                if len(made) > AHEAD:
                    write(file)
            while made:
                write(file)
    finally:
        making.shutdown(cancel_futures=True)
        digesting.shutdown()
    return f"sha256:{digest.hexdigest()}"


def _write_all(file: BinaryIO, data: Data) -> None:
    """A file without a buffer may take less than it is given."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
