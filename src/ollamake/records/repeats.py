"""What only all records of a dataset together show: duplicates, and one prompt with several answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ollamake.records.block import Rows
from ollamake.records.mixing import Prints, fingerprints

AT_ONCE = 1 << 21  # rows that are compared at once: the rest of the dataset waits on the disk


@dataclass(frozen=True, slots=True)
class Repeat:
    """A record that was there before, or whose prompt was."""

    row: int  # number of the record in the dataset, from 0
    first: int  # number of the one that it repeats
    same_answer: bool


def repeats(chunks: Iterable[Rows], count: int) -> Iterator[Repeat]:
    """The repeats among these many rows, in no order. `chunks` is gone through once for each AT_ONCE of them, and once more where there are any."""
    shares = max(1, -(-count // AT_ONCE))
    for share in range(shares):
        prompts = [_of_share(_prompts(rows), share, shares) for rows in chunks]
        ordered = np.sort(np.concatenate(prompts)) if prompts else np.empty(0, np.uint64)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(twice):
            yield from _repeats_of(chunks, twice)


def _prompts(rows: Rows) -> Prints:
    return fingerprints(rows["parts"][:, :2])


def _of_share(prompts: Prints, share: int, shares: int) -> Prints:
    return prompts[prompts % np.uint64(shares) == share] if shares > 1 else prompts


def _repeats_of(chunks: Iterable[Rows], twice: Prints) -> Iterator[Repeat]:
    """The repeats of these prompts."""
    first: dict[tuple[int, ...], int] = {}  # prompt, or prompt and answer -> number of the record
    start = 0
    for rows in chunks:
        places = np.flatnonzero(np.isin(_prompts(rows), twice))
        for place, whole in zip((places + start).tolist(), map(tuple, rows["parts"][places].tolist()), strict=True):
            if whole in first:
                yield Repeat(place, first[whole], same_answer=True)
                continue
            first[whole] = place
            if whole[:2] in first:
                yield Repeat(place, first[whole[:2]], same_answer=False)
            else:
                first[whole[:2]] = place
        start += len(rows)
