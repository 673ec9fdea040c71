"""A block of lines -> what is known of its records: at the speed of the decoder where they are without fault, line by line where they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ollamake.records.content import content_faults, suspects
from ollamake.records.formats import Chat, Layout, Pair, Record, Text, messages_in, texts_in
from ollamake.records.line import read_line, too_deep, unread
from ollamake.records.mixing import fingerprints
from ollamake.records.rules import SHOWN, Findings, Found
from ollamake.records.wire import Columns, Texts, columns_of

# Of a record: its line, the characters of its texts, and a fingerprint (XXH3, 64 bits) of each of its parts.
ROW = np.dtype([("line", "<u4"), ("characters", "<u4"), ("parts", "<u8", (3,))])
Rows: TypeAlias = NDArray[np.void]

_NOTHING = xxh3_64_intdigest(b"")
Line: TypeAlias = tuple[int, bytes]  # its number, and what it holds
FEW = 16  # lines that are rather looked at one by one than parted once more
SchemaFaults: TypeAlias = Callable[[Any, int], Sequence[Found]]  # JSON value and line -> how it breaks the dataset's own JSON Schema


@dataclass(frozen=True, slots=True)
class Block:
    """What is known of the records of some lines."""

    rows: Rows
    findings: Findings
    lines: int
    left_out: int  # lines that are no record


def check_block(content: bytes, layout: Layout, *, numbers: Sequence[int] | None = None, schema: SchemaFaults | None = None) -> Block:
    """Check these lines, whole ones; `numbers` are theirs in the file, where they are not 1, 2, 3..."""
    columns = columns_of(content, layout) if schema is None else None
    if columns is not None:
        return _plain(columns, content, numbers or range(1, len(columns.characters) + 1), layout)
    told, count = _numbered(content, numbers)
    return replace(_parted(told, layout, schema), lines=count)


def _numbered(content: bytes, numbers: Sequence[int] | None) -> tuple[list[Line], int]:
    """The lines that are not blank, and how many there are with those that are."""
    lines = content.removesuffix(b"\n").split(b"\n")
    return [line for line in zip(numbers or range(1, len(lines) + 1), map(bytes.rstrip, lines), strict=True) if line[1]], len(lines)


def _joined(lines: Sequence[Line]) -> bytes:
    """Lines as the decoder takes them, without the white space of JSON before the records."""
    return b"\n".join(line.lstrip(b" \t\r") for _, line in lines)


def _parted(lines: Sequence[Line], layout: Layout, schema: SchemaFaults | None) -> Block:
    """The block of these lines, none of them blank: with care there alone where something may be wrong."""
    if schema is None:
        content = _joined(lines)
        columns = columns_of(content, layout)
        if columns is not None:
            return _plain(columns, content, [number for number, _ in lines], layout)
    if schema is not None or len(lines) <= FEW:
        return _careful(lines, layout, schema)
    middle = len(lines) // 2
    first, second = (_parted(half, layout, schema) for half in (lines[:middle], lines[middle:]))
    first.findings.merge(second.findings)
    return Block(np.concatenate((first.rows, second.rows)), first.findings, len(lines), first.left_out + second.left_out)


def _plain(columns: Columns, content: bytes, numbers: Sequence[int], layout: Layout) -> Block:
    """The block of records without a fault of form."""
    rows = np.empty(len(columns.characters), ROW)
    rows["line"] = numbers
    rows["characters"] = columns.characters
    for place, part in enumerate(columns.parts):
        rows["parts"][:, place] = _prints(part)
    findings = Findings()
    if columns.others.count:
        for record in columns.others.records[:SHOWN]:
            findings.extend(read_line(columns.raw.line(content, record), int(rows["line"][record]), layout)[1])
        findings.counts["unknown-key"] = columns.others.count
    for record in sorted(set(np.searchsorted(columns.raw.ends, suspects(content, columns.raw.escapes)).tolist())):
        line = int(rows["line"][record])
        read, _, value = read_line(columns.raw.line(content, record), line, layout)
        findings.extend(_content_of(read, value, line, layout))
    return Block(rows, findings, len(rows), 0)


def _prints(texts: Texts) -> NDArray[np.uint64]:
    """A fingerprint of each of these texts."""
    there = list(filter(None, texts))
    prints = np.fromiter(map(xxh3_64_intdigest, map(str.encode, there)), np.uint64, len(there))
    if len(there) == len(texts):
        return prints
    every = np.full(len(texts), _NOTHING, np.uint64)
    every[np.fromiter(map(bool, texts), np.bool_, len(texts))] = prints
    return every


def _careful(lines: Sequence[Line], layout: Layout, schema: SchemaFaults | None) -> Block:
    """The block of lines of which some may have a fault."""
    findings = Findings()
    rows: list[tuple[int, int, tuple[int, ...]]] = []
    for number, line in lines:
        try:
            record, found, value = read_line(line, number, layout)
            if schema is not None and value is not None:
                found += schema(value, number)
            found += _content_of(record, value, number, layout)
            if record is not None:
                parts = record.parts()
                rows.append((number, record.characters, tuple(xxh3_64_intdigest(part.encode()) for part in parts)))
        except RecursionError:  # of what reads and writes it on the way: the limit is Python's
            found = [too_deep(number)]
        findings.extend(found)
    return Block(np.array(rows, ROW), findings, len(lines), len(lines) - len(rows))


def _content_of(record: Record | None, value: Any, number: int, layout: Layout) -> list[Found]:
    """The faults of the texts in a line; of those that no model reads, secrets alone."""
    others = texts_in(value, "$") if record is None else unread(value, layout)
    read = content_faults(record.texts(layout), number) if record else ()
    return [*read, *(one for one in content_faults(others, number) if one.rule == "secrets")]


def read_block(content: bytes, layout: Layout, *, numbers: Sequence[int] | None = None) -> tuple[list[Record], int]:
    """The records of these lines, those left out that are none, and how many lines there are. The rules are for check_block."""
    told, count = _numbered(content, numbers)
    return list(_records(told, layout)), count


def prints_of(records: Sequence[Record]) -> NDArray[np.uint64]:
    """A fingerprint of each of these records, as those of their rows."""
    parts = [xxh3_64_intdigest(part.encode()) for record in records for part in record.parts()]
    return fingerprints(np.array(parts, np.uint64).reshape(-1, 3))


def _records(lines: Sequence[Line], layout: Layout) -> Iterator[Record]:
    columns = columns_of(_joined(lines), layout)
    if columns is not None:
        make = _makers[layout.format.name]
        for (number, _), *parts in zip(lines, *columns.parts, strict=True):
            yield make(*parts, number)
    elif len(lines) <= FEW:
        yield from filter(None, (read_line(line, number, layout)[0] for number, line in lines))
    else:
        middle = len(lines) // 2
        yield from _records(lines[:middle], layout)
        yield from _records(lines[middle:], layout)


def _chat(before: str, _: str, answer: str, number: int) -> Chat:
    return Chat((*messages_in(before), {"role": "assistant", "content": answer}), (), number)


_makers: Mapping[str, Callable[..., Record]] = {
    "alpaca": Pair,
    "prompt-completion": Pair,
    "text": lambda text, _, __, number: Text(text, number),
    "chat": _chat,
    "sharegpt": _chat,
}
