"""What only all records of a dataset together show: duplicates, and one prompt with several answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """The repeats among these many rows, in no order. `chunks` is gone through once for each AT_ONCE of them."""
    shares = max(1, -(-count // AT_ONCE))
    for share in range(shares):
        prompts: list[Prints] = []
        numbers: list[NDArray[np.int64]] = []
        parts: list[NDArray[np.uint64]] = []
        start = 0
        for rows in chunks:
            prompt = fingerprints(rows["parts"][:, :2])
            mine = np.flatnonzero(prompt % np.uint64(shares) == share) if shares > 1 else np.arange(len(rows))
            prompts.append(prompt[mine])
            numbers.append(mine + start)
            parts.append(rows["parts"][mine])
            start += len(rows)
        if numbers:
            yield from _among(np.concatenate(prompts), np.concatenate(numbers), parts)


def _among(prompts: Prints, numbers: NDArray[np.int64], parts: list[NDArray[np.uint64]]) -> Iterator[Repeat]:
    ordered = np.sort(prompts)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return
    places = np.flatnonzero(np.isin(prompts, twice))
    prints = np.concatenate(parts)[places].tolist()
    first: dict[tuple[int, ...], int] = {}  # prompt, or prompt and answer -> number of the record
    for place, (instruction, context, answer) in zip(numbers[places].tolist(), prints, strict=True):
        whole = (instruction, context, answer)
        if whole in first:
            yield Repeat(place, first[whole], same_answer=True)
            continue
        first[whole] = place
        if whole[:2] in first:
            yield Repeat(place, first[whole[:2]], same_answer=False)
        else:
            first[whole[:2]] = place
