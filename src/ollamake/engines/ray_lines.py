"""The lines of JSON by which a driver of a Ray cluster and its doit talk, and what stands in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from typing import IO, Any

Facts = dict[str, Any]
WIDEST = 300  # characters of a line that somebody shall read


class Lines:
    """The driver's side. Whatever else is printed in this process goes to where its errors go."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._answers: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def tell(self, facts: Facts) -> None:
        """Write a line to the one who has started this process."""
        with self._one, contextlib.suppress(BrokenPipeError):
            self._answers.write(json.dumps(facts) + "\n")
            self._answers.flush()

    async def asked(self) -> AsyncIterator[Facts]:
        """What is asked, until standard input closes."""
        loop = asyncio.get_running_loop()
        asked: asyncio.Queue[Facts | None] = asyncio.Queue()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(asked.put_nowait, json.loads(line))
            loop.call_soon_threadsafe(asked.put_nowait, None)

        threading.Thread(target=read, daemon=True).start()
        while (line := await asked.get()) is not None:
            yield line


def shown(takes: Mapping[str, float]) -> str:
    """`CPU: 1, GPU: 2`."""
    return ", ".join(f"{name}: {amount:g}" for name, amount in takes.items())


def cluster(nodes: list[dict[str, float]]) -> str:
    """`3 nodes with CPU: 1`."""
    kinds: dict[str, int] = {}
    for node in nodes:
        own = {name: amount for name, amount in sorted(node.items()) if ":" not in name and name not in {"memory", "object_store_memory"}}
        kinds[shown(own) or "nothing"] = kinds.get(shown(own) or "nothing", 0) + 1
    return " and ".join(f"{count} {'node' if count == 1 else 'nodes'} with {what}" for what, count in kinds.items()) or "no node"


def last_line(error: BaseException) -> str:
    """What an error comes to that has the traceback of another program in it, or the last words of a third. All of it goes into the log."""
    print(error, file=sys.stderr, flush=True)
    said = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
    return said if len(said) <= WIDEST else f"{said[:WIDEST]}..."


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
