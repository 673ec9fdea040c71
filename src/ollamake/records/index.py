"""What is kept of a dataset's records, so that a later state of it can be compared with it, record by record. It explains, and decides nothing."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ollamake.records.block import Rows
from ollamake.records.mixing import fingerprints
from ollamake.spelling import counted

SHOWN = 3  # changed records that a line names

Content: TypeAlias = tuple[int, ...]  # the fingerprints of a record's parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What became of the records of one file."""

    added: int
    removed: int
    changed: tuple[tuple[int, tuple[str, ...]], ...]  # line now, and the parts that are others
    moved: bool  # the same records in another order

    def __str__(self) -> str:
        """`12 records added, 3 removed, 1 changed (line 47: output)`."""
        counts = [(self.added, "added"), (self.removed, "removed"), (len(self.changed), "changed")]
        said = [(count, what) for count, what in counts if count]
        told = [f"{count if place else counted(count, 'record')} {what}" for place, (count, what) in enumerate(said)]
        if self.changed:
            places = [f"line {line}: {', '.join(keys)}" for line, keys in self.changed[:SHOWN]]
            more = [f"{len(self.changed) - SHOWN} more"] if len(self.changed) > SHOWN else []
            told[-1] += f" ({'; '.join([*places, *more])})"
        if not told:
            return "the records are in another order" if self.moved else "the records are the same, written otherwise"
        return ", ".join(told)


def difference(before: Rows, now: Rows, names: Sequence[str]) -> Difference:
    """What became of the records, whose parts have these names; one of which the prompt or the answer is still there is changed, not removed and added."""
    prints, prints_now = fingerprints(before["parts"]), fingerprints(now["parts"])
    gone, new = before[_beyond(prints, prints_now)], now[_beyond(prints_now, prints)]
    was, lines = _contents(gone), new["line"].tolist()
    unmatched = list(zip(lines, _contents(new), strict=True))
    changed, taken = [], set()
    for keep in ((0, 1), (2,), (0,)):  # the same question; the same answer; the same instruction
        waiting: dict[Content, deque[int]] = defaultdict(deque)
        for number, content in enumerate(was):
            if number not in taken:
                waiting[tuple(content[place] for place in keep)].append(number)
        left = []
        for line, content in unmatched:
            match = waiting[tuple(content[place] for place in keep)]
            if match:
                number = match.popleft()
                taken.add(number)
                changed.append((line, tuple(name for name, one, other in zip(names, was[number], content, strict=True) if one != other)))
            else:
                left.append((line, content))
        unmatched = left
    return Difference(
        added=len(unmatched), removed=len(gone) - len(taken), changed=tuple(sorted(changed)), moved=not np.array_equal(prints, prints_now)
    )


def _contents(rows: Rows) -> list[Content]:
    return list(map(tuple, rows["parts"].tolist()))


def _beyond(prints: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places of these that the others have not, or not as often."""
    order = np.argsort(prints, kind="stable")
    values, starts, counts = np.unique(prints[order], return_index=True, return_counts=True)
    known, known_counts = np.unique(others, return_counts=True)
    there = np.searchsorted(known, values)
    there[there == len(known)] = 0
    kept = np.where(known[there] == values, known_counts[there], 0) if len(known) else np.zeros(len(values), np.int64)
    spans = [
        order[start + keep : start + count]
        for start, count, keep in zip(starts.tolist(), counts.tolist(), kept.tolist(), strict=True)
        if count > keep
    ]
    return np.sort(np.concatenate(spans)) if spans else np.empty(0, np.int64)
