"""Examples of one batch in rows without padding, their common beginning only once: what one step computes, and not a token more.

A row is the beginning that all examples of the batch share (the template's head, the system prompt), then the rest of each example, end to end. Every
rest attends to the beginning and to itself, to no other; its positions go on from the beginning's. So each token's state is the one that it has in its
example alone, and so is the loss.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ollamake.trainers.examples import Example

SHORTEST_SHARED = 4  # tokens: what is shorter is not worth a seam
LONGEST_ROW = 8192  # tokens: bounds what a step needs of memory; a batch that is longer becomes several rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Examples of a batch as one sequence."""

    ids: tuple[int, ...]  # the shared beginning, then the rests
    positions: tuple[int, ...]  # of each token in its example
    shared: int  # tokens of the beginning
    rests: tuple[int, ...]  # tokens of each rest
    places: tuple[int, ...]  # in the row, of the states that predict what is learnt
    labels: tuple[int, ...]  # the tokens that they shall predict


def shared_beginning(examples: Sequence[Example]) -> int:
    """The number of tokens with which all of these begin alike; 0 where it isn't worth it.

    It ends before the first state that predicts a learnt token, and leaves each example at least one token of its own.
    """
    if len(examples) < 2:
        return 0
    most = min(min(len(example.ids), *example.learnt) for example in examples) - 1
    first, last = min(example.ids for example in examples), max(example.ids for example in examples)
    # What the least and the greatest of them have in common, all that lie between them have.
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    length = min(most, alike)
    return length if length >= SHORTEST_SHARED else 0


def pack(examples: Sequence[Example], *, longest: int = LONGEST_ROW) -> list[Row]:
    """The batch as rows of at most `longest` tokens, or of one example where that alone has more. Nothing is cut."""
    shared = shared_beginning(examples)
    rows: list[Row] = []
    group: list[Example] = []
    length = shared
    for example in examples:
        own = len(example.ids) - shared
        if group and length + own > longest:
            rows.append(_row(group, shared))
            group, length = [], shared
        group.append(example)
        length += own
    rows.append(_row(group, shared))
    return rows


def _row(examples: Sequence[Example], shared: int) -> Row:
    ids = list(examples[0].ids[:shared])
    positions = list(range(shared))
    places: list[int] = []
    labels: list[int] = []
    for example in examples:
        before = len(ids) - shared  # of the row, beyond where the example's own tokens would stand if it were alone
        ids.extend(example.ids[shared:])
        positions.extend(range(shared, len(example.ids)))
        places.extend(before + place - 1 for place in example.learnt)  # the state at a token predicts the next one
        labels.extend(example.ids[place] for place in example.learnt)
    return Row(
        ids=tuple(ids),
        positions=tuple(positions),
        shared=shared,
        rests=tuple(len(example.ids) - shared for example in examples),
        places=tuple(places),
        labels=tuple(labels),
    )


def batches(examples: Sequence[Example], *, size: int, seed: int, epoch: int) -> list[list[Example]]:
    """An epoch's batches: examples of like length together, so that steps take alike; the order is decided by seed and epoch."""
    shuffled = list(examples)
    chance = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    chance.shuffle(shuffled)
    shuffled.sort(key=lambda example: len(example.ids))
    found = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    chance.shuffle(found)
    return found
