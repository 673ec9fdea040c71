"""What is kept of a dataset's records so that a later state of it can be compared, record by record. Pure; it explains, and decides nothing."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zlib import crc32

from ollamake.records.records import KEYS, Record

Row: TypeAlias = list[int]  # line, and a checksum of each of KEYS
SHOWN = 3  # changed records that a line names


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What became of the records of one file."""

    added: int
    removed: int
    changed: tuple[tuple[int, tuple[str, ...]], ...]  # line now, and the keys that are others
    moved: bool  # the same records in another order

    def __str__(self) -> str:
        """`12 records added, 3 removed, 1 changed (line 47: output)`."""
        counts = [(self.added, "added"), (self.removed, "removed"), (len(self.changed), "changed")]
        told = [f"{count} {what}" for count, what in counts if count]
        if told:
            first, _, rest = told[0].partition(" ")
            told[0] = f"{first} record{'' if first == '1' else 's'} {rest}"
        if self.changed:
            places = [f"line {line}: {', '.join(keys)}" for line, keys in self.changed[:SHOWN]]
            more = [f"{len(self.changed) - SHOWN} more"] if len(self.changed) > SHOWN else []
            told[-1] += f" ({'; '.join([*places, *more])})"
        if not told:
            return "the records are in another order" if self.moved else "the records are the same, written otherwise"
        return ", ".join(told)


def index_of(records: Iterable[Record]) -> list[Row]:
    """A row for each record."""
    return [[record.line, *(crc32(text.encode()) for text in (record.instruction, record.input, record.output))] for record in records]


def difference(before: Sequence[Row], now: Sequence[Row]) -> Difference:
    """What became of the records; one whose instruction, input or output is still there is changed, not removed and added."""
    kept = Counter(map(_content, before)) & Counter(map(_content, now))
    gone, new = list(_beyond(before, kept)), list(_beyond(now, kept))
    changed, taken = [], set()
    for keep in ((0, 1), (2,), (0,)):  # the same question; the same answer; the same instruction
        waiting: dict[tuple[int, ...], deque[int]] = defaultdict(deque)
        for number, row in enumerate(gone):
            if number not in taken:
                waiting[tuple(_content(row)[place] for place in keep)].append(number)
        unmatched = []
        for row in new:
            match = waiting[tuple(_content(row)[place] for place in keep)]
            if match:
                number = match.popleft()
                taken.add(number)
                changed.append((row[0], _others(gone[number], row)))
            else:
                unmatched.append(row)
        new = unmatched
    order = [_content(row) for row in before] != [_content(row) for row in now]
    return Difference(added=len(new), removed=len(gone) - len(taken), changed=tuple(sorted(changed)), moved=order)


def _others(before: Row, now: Row) -> tuple[str, ...]:
    return tuple(key for key, one, other in zip(KEYS, _content(before), _content(now), strict=True) if one != other)


def _content(row: Row) -> tuple[int, ...]:
    return tuple(row[1:])


def _beyond(rows: Iterable[Row], kept: Counter[tuple[int, ...]]) -> Iterator[Row]:
    left = kept.copy()
    for row in rows:
        content = _content(row)
        if left[content]:
            left[content] -= 1
        else:
            yield row
