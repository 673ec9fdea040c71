"""Pieces of a dataset's file: whole lines with a JSON value on each; and how JSON arrays, tables and Parquet files become some."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ollamake.errors import BuildError
from ollamake.records.json_text import StrictDecoder
from ollamake.records.rules import Found

ROWS = 4096  # records of a piece where the file has none of JSON lines
HEAD = 4096  # bytes in which the first row of a table is looked for
LONGEST_CELL = 1 << 30  # characters


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, a JSON value on each that is not blank."""

    lines: bytes
    numbers: Sequence[int] | None = None  # the lines' numbers in the file; None: they follow on those of the piece before
    found: tuple[Found, ...] = ()  # what is wrong with the file itself, by lines of the file


# What files begin with that are no text, what they are, and the ending of a name by which they can be read.
_OTHERS = (
    (b"\xff\xfe", "UTF-16", ""),
    (b"\xfe\xff", "UTF-16", ""),
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"PAR1", "Parquet", ".parquet"),
    (b"PK\x03\x04", "a zip archive", ""),
    (b"BZh", "bzip2", ""),
    (b"\xfd7zXZ", "xz", ""),
)


def other_than_text(beginning: bytes) -> Found | None:
    """What is wrong with a file that begins like this, where that is plainly no text in UTF-8."""
    for signature, kind, ending in _OTHERS:
        if beginning.startswith(signature):
            fix = f"let the file's name end with {ending}" if ending else "save it as UTF-8" if kind == "UTF-16" else "unpack it"
            return Found("unreadable-file", 1, f"the file is {kind}", fix)
    return None


def array_pieces(content: bytes, found: tuple[Found, ...]) -> Iterator[Piece]:
    """The pieces of a JSON array: each value on a line of its own, with the number of the line that it begins on."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield Piece(b"", found=(*found, Found("unreadable-file", line, f"not UTF-8: byte {error.start + 1} of the file", "save the file as UTF-8")))
        return
    lines: list[str] = []
    numbers: list[int] = []
    line, counted = 1, 0  # of the value, and the place up to which its lines are counted
    try:
        for start, end in _values(text):
            line += text.count("\n", counted, start)
            counted = start
            lines.append(text[start:end].replace("\n", " ").replace("\r", " "))  # white space: in a text, a line end is written \n
            numbers.append(line)
            if len(lines) == ROWS:
                yield Piece("\n".join(lines).encode(), numbers, found)
                lines, numbers, found = [], [], ()
    except json.JSONDecodeError as error:
        said = f"not JSON: {error.msg} at column {error.colno}"
        found = (*found, Found("unreadable-file", error.lineno, said, "write one JSON array of objects, or one object a line"))
    except (ValueError, RecursionError) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else str(error)
        found = (*found, Found("unreadable-file", line, f"not JSON: {said}", "write one JSON array of objects, or one object a line"))
    yield Piece("\n".join(lines).encode(), numbers, found)


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Where each value of the JSON array begins and ends. Raises JSONDecodeError and RecursionError."""
    decoder = StrictDecoder()
    place = _skip(text, text.index("[") + 1)
    is_open = not text.startswith("]", place)
    while is_open:
        _, end = decoder.raw_decode(text, place)
        yield place, end
        place = _skip(text, end)
        is_open = not text.startswith("]", place)
        if is_open:
            place = _skip(text, _behind(text, place, ","))
    after = _skip(text, place + 1)
    if after != len(text):
        msg = "Extra data"
        raise json.JSONDecodeError(msg, text, after)


def _behind(text: str, place: int, sign: str) -> int:
    if not text.startswith(sign, place):
        msg = f"Expecting {sign!r} delimiter"
        raise json.JSONDecodeError(msg, text, place)
    return place + 1


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def table_pieces(file: Any, delimiters: str) -> Iterator[Piece]:
    """The pieces of a table with a head: a JSON object of each row, in which a cell that is empty is not. The delimiter is that of these which the head has most of."""
    content = io.BufferedReader(file)
    beginning = content.peek(HEAD)
    other = other_than_text(beginning)
    if other is not None:
        yield Piece(b"", found=(other,))
        return
    first = beginning.partition(b"\n")[0]
    delimiter = max(delimiters, key=lambda sign: first.count(sign.encode()))
    text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    lines: list[str] = []
    numbers: list[int] = []
    found: tuple[Found, ...] = ()
    begun = 1
    try:
        head = next(rows, [])
        twice = next((name for name in head if head.count(name) > 1), None)
        if twice is not None:
            found = (Found("unreadable-file", 1, f"column {twice!r} stands twice", "give each column a name of its own"),)
        begun = rows.line_num + 1
        for row in rows:
            if not all(map(_is_utf8, row)):
                found = (*found, Found("not-utf8", begun, "not UTF-8: a cell of this row", "save the file as UTF-8"))
            elif row:
                if len(row) > len(head):
                    text_of = f"{len(row)} cells below a head of {len(head)}"
                    found = (*found, Found("unreadable-file", begun, text_of, "put cells that hold the delimiter into quotes"))
                lines.append(json.dumps({key: cell for key, cell in zip(head, row, strict=False) if cell}, ensure_ascii=False))
                numbers.append(begun)
            begun = rows.line_num + 1
            if len(lines) == ROWS:
                yield Piece("\n".join(lines).encode(), numbers, found)
                lines, numbers, found = [], [], ()
    except csv.Error as error:
        found = (*found, Found("unreadable-file", begun, f"not CSV: {error}", "mend the row, or write JSON lines"))
    finally:
        text.detach()
    yield Piece("\n".join(lines).encode(), numbers, found)


def _is_utf8(cell: str) -> bool:
    return cell.isascii() or not any("\udc80" <= character <= "\udcff" for character in cell)


def parquet_pieces(file: Any, path: str) -> Iterator[Piece]:
    """The pieces of a Parquet table: a JSON object of each row, in which what is null is not; the rows' numbers are its lines."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        msg = f"{path}: what reads Parquet is not installed"
        raise BuildError(msg, fix="pip install 'ollamake[parquet]'") from error
    row = 1
    try:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=ROWS):
            values = [{key: value for key, value in item.items() if value is not None} for item in batch.to_pylist()]
            yield Piece("\n".join(json.dumps(value, ensure_ascii=False, default=str) for value in values).encode(), range(row, row + len(values)))
            row += len(values)
    except pa.ArrowException as error:
        yield Piece(b"", found=(Found("unreadable-file", row, f"not Parquet: {error}", "write the file again"),))
