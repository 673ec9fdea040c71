"""Blocks checked by several processes at once, in order. A process that is lost loses nothing: what it had is checked here."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import local
from typing import Any, TypeVar

from ollamake.records.block import Block, check_block
from ollamake.records.formats import Layout
from ollamake.records.schema import schema_of
from ollamake.stages.piece import Piece

AHEAD = 2  # pieces that wait for each process
SWITCH = 2e-4  # seconds

T = TypeVar("T")


class Checkers:
    """Processes that check pieces of a dataset. None at all, where `count` is 0."""

    def __init__(self, layout: Layout, schema: Any, count: int) -> None:
        self.job = layout, schema
        self.schema = schema_of(schema)
        self.count = count
        self.mine = local()
        self.switch = sys.getswitchinterval()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pool = ThreadPoolExecutor(count) if count else None

    def __enter__(self) -> Checkers:
        if self.pool is not None:  # the threads hand pieces on: with Python's own interval of 5 ms, a process would wait longer than it works
            sys.setswitchinterval(SWITCH)
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            sys.setswitchinterval(self.switch)
        for process in self.processes:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]

    def check(self, pieces: Iterable[tuple[T, Piece | Block]]) -> Iterator[tuple[T, Block]]:
        """The blocks of these pieces, in their order, each beside what was given with it. What is a block already stays as it is."""
        waiting: deque[tuple[T, Future[Block]]] = deque()
        for what, piece in pieces:
            future: Future[Block] = Future()
            if isinstance(piece, Block):
                future.set_result(piece)
            elif self.pool is not None and sum(not one.done() for _, one in waiting) < AHEAD * self.count:
                future = self.pool.submit(self._by_process, piece)
            else:
                future.set_result(self._here(piece))
            waiting.append((what, future))
            while waiting and waiting[0][1].done():
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()

    def _here(self, piece: Piece) -> Block:
        return check_block(piece.lines, self.job[0], numbers=piece.numbers, schema=self.schema)

    def _by_process(self, piece: Piece) -> Block:
        try:
            process = self._process()
            pickle.dump(piece, process.stdin, pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
            process.stdin.flush()  # type: ignore[union-attr]
            block = pickle.load(process.stdout)  # type: ignore[arg-type]  # noqa: S301 - of our own process
        except (OSError, EOFError, pickle.UnpicklingError):
            return self._here(piece)
        return block if isinstance(block, Block) else self._here(piece)

    def _process(self) -> subprocess.Popen[bytes]:
        """The process of the thread that asks."""
        if not hasattr(self.mine, "process"):
            program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
            process = subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.processes.append(process)
            pickle.dump(self.job, process.stdin, pickle.HIGHEST_PROTOCOL)  # type: ignore[arg-type]
            self.mine.process = process
        return self.mine.process  # type: ignore[no-any-return]


def serve() -> None:
    """Be such a process: until standard input ends, check what comes there."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    layout, schema = pickle.load(source)  # noqa: S301 - of our own parent
    faults = schema_of(schema)
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            piece = pickle.load(source)  # noqa: S301
            pickle.dump(check_block(piece.lines, layout, numbers=piece.numbers, schema=faults), target, pickle.HIGHEST_PROTOCOL)
            target.flush()
