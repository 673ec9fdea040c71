"""What a driver has put into the object store of its Ray cluster: files of jobs as long as a training needs them, bases as long as it runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ray

from ollamake.engines.node_files import Wanted, chunks
from ollamake.engines.ray_lines import Facts

INLINE = 100_000  # bytes of a file that travel with the task itself


class Sent:
    """Files and bases, by their digests."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {}  # digest -> reference, of those that are too large for a task
        self.users: Counter[str] = Counter()  # digest -> trainings that need it
        self.bases: dict[str, asyncio.Future[list[Any]]] = {}  # digest -> references of its pieces

    async def take(self, files: Iterable[Facts]) -> list[tuple[str, str, Any]]:
        """The files of a job, for a task: path there, digest, and content or a reference to it. Raises OSError."""
        found: list[tuple[str, str, Any]] = []
        for one in files:
            path, digest = Path(one["path"]), one["digest"]
            self.users[digest] += 1
            if digest not in self.files:
                content = await asyncio.to_thread(path.read_bytes)
                if len(content) <= INLINE:
                    found.append((one["name"], digest, content))
                    continue
                self.files[digest] = await asyncio.to_thread(ray.put, content)
            found.append((one["name"], digest, self.files[digest]))
        return found

    def leave(self, files: Iterable[Facts]) -> None:
        """A job has ended: what no other needs is let go."""
        for one in files:
            self.users[one["digest"]] -= 1
            if self.users[one["digest"]] <= 0:
                self.files.pop(one["digest"], None)
                del self.users[one["digest"]]

    async def base(self, digest: str) -> list[Any] | None:
        """References to the pieces of a base; None where it was not put."""
        there = self.bases.get(digest)
        return None if there is None else await there

    def puts(self, digest: str) -> bool:
        """Is a base there, or on its way?"""
        return digest in self.bases

    async def put(self, path: Path, wanted: Wanted) -> None:
        """Put a base there, once for all that ask for it. Raises BuildError, and what Ray raises."""
        if wanted.digest not in self.bases:
            self.bases[wanted.digest] = asyncio.ensure_future(asyncio.to_thread(lambda: [ray.put(piece) for piece in chunks(path, wanted)]))
        try:
            await self.bases[wanted.digest]
        except BaseException:  # the next training may have better luck
            self.bases.pop(wanted.digest, None)
            raise
