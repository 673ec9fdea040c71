"""Blocks checked by several processes at once, in order. A process that is lost loses nothing: what it had is checked here."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from ollamake.errors import BuildError
from ollamake.records.block import Block, check_block
from ollamake.records.formats import Layout
from ollamake.records.schema import schema_of
from ollamake.stages.piece import Piece

AHEAD = 3  # pieces that wait for each process, so that it never waits for one
FIRST = 4  # pieces that are checked here before a process is started: an edit changes few
PIPE = 1 << 20  # bytes that wait in a pipe, where the system lets it: all those pieces

T = TypeVar("T")


class Checkers:
    """Processes that check pieces of a dataset, at most `count` of them beside this one."""

    def __init__(self, layout: Layout, schema: Any, count: int) -> None:
        self.job = layout, schema
        self.schema = schema_of(schema)
        self.count = count
        self.checked_here = 0
        self.helpers: list[_Helper] = []

    def __enter__(self) -> Checkers:
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self.helpers:
            helper.end()

    def check(self, pieces: Iterable[tuple[T, Piece | Block]]) -> Iterator[tuple[T, Block]]:
        """The blocks of these pieces, in their order, each beside what was given with it. What is a block already stays as it is."""
        waiting: deque[tuple[T, Future[Block]]] = deque()
        for what, piece in pieces:
            waiting.append((what, _known(piece) if isinstance(piece, Block) else self._begin(piece)))
            while waiting and waiting[0][1].done():
                first, done = waiting.popleft()
                yield first, done.result()
        for first, done in waiting:
            yield first, done.result()

    def _begin(self, piece: Piece) -> Future[Block]:
        if not self.helpers and self.checked_here >= FIRST:
            self.helpers = [_Helper(self.job, self._here) for _ in range(self.count)]
        helper = next((one for one in self.helpers if one.is_free()), None)
        if helper is not None:
            return helper.begin(piece)
        self.checked_here += 1
        return _known(self._here(piece))

    def _here(self, piece: Piece) -> Block:
        return check_block(piece.lines, self.job[0], numbers=piece.numbers, schema=self.schema)


class _Helper:
    """One of the processes."""

    def __init__(self, job: tuple[Layout, Any], otherwise: Callable[[Piece], Block]) -> None:
        self.otherwise = otherwise  # what checks a piece when the process is lost
        # Ctrl-C is for the parent, which ends this one.
        program = (
            f"import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
        )
        one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # NumPy starts them for what is not asked of it here
        self.process = subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=one_thread)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):  # root may have set a lower limit
                fcntl.fcntl(self.stdin, fcntl.F_SETPIPE_SZ, PIPE)
        self.is_lost = False
        self.waiting: list[Future[Block]] = []
        self.receiver = ThreadPoolExecutor(1)
        self._send(job)

    def is_free(self) -> bool:
        self.waiting = [one for one in self.waiting if not one.done()]
        return not self.is_lost and len(self.waiting) < AHEAD

    def begin(self, piece: Piece) -> Future[Block]:
        self._send(piece)
        self.waiting.append(self.receiver.submit(self._receive, piece))
        return self.waiting[-1]

    def _send(self, what: object) -> None:
        try:
            pickle.dump(what, self.stdin, pickle.HIGHEST_PROTOCOL)
            self.stdin.flush()
        except OSError:
            self.is_lost = True

    def _receive(self, piece: Piece) -> Block:
        if not self.is_lost:
            with suppress(OSError, EOFError, pickle.UnpicklingError):
                block = pickle.load(self.stdout)  # noqa: S301 - of our own process
                if isinstance(block, Block):
                    return block
        self.is_lost = True
        return self.otherwise(piece)

    def end(self) -> None:
        self.is_lost = True  # what still waits is not wanted
        self.process.kill()
        self.receiver.shutdown(cancel_futures=True)
        with suppress(OSError):
            self.stdin.close()
        self.stdout.close()
        self.process.wait()


def _known(block: Block) -> Future[Block]:
    future: Future[Block] = Future()
    future.set_result(block)
    return future


def serve() -> None:
    """Be such a process: until standard input ends, check what comes there."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    layout, schema = pickle.load(source)  # noqa: S301 - of our own parent
    faults = schema_of(schema)
    with suppress(EOFError, BrokenPipeError):
        while True:
            piece = pickle.load(source)  # noqa: S301
            try:
                block = check_block(piece.lines, layout, numbers=piece.numbers, schema=faults)
            except BuildError:  # the parent finds it too, and says it
                block = None
            pickle.dump(block, target, pickle.HIGHEST_PROTOCOL)
            target.flush()
