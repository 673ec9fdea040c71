"""Tables, CSV and Parquet, as pieces of JSON lines."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from ollamake.errors import BuildError
from ollamake.records.quoted import shown_key
from ollamake.records.rules import Found
from ollamake.stages.piece import ROWS, Piece, other_than_text

LONGEST_CELL = 1 << 30  # characters
HEAD = 4096  # bytes in which the head of a table is looked for
SEPARATOR = "sep="  # what Excel takes for the delimiter, on a line before the head


def table_pieces(file: Any, delimiters: str) -> Iterator[Piece]:
    """The pieces of a table with a head: a JSON object of each row, in which a cell that is empty is not. The delimiter is that of these which the head has most of."""
    content = io.BufferedReader(file)
    beginning = content.peek(HEAD)
    other = other_than_text(beginning)
    if other is not None:
        yield Piece(b"", found=(other,))
        return
    first = next(filter(None, map(bytes.strip, beginning.split(b"\n"))), b"")
    delimiter = max(delimiters, key=lambda sign: first.count(sign.encode()))
    text = io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    lines: list[str] = []
    numbers: list[int] = []
    found: tuple[Found, ...] = ()
    begun = 1
    try:
        head = next((row for row in rows if row and not row[0].startswith(SEPARATOR)), [])
        found = tuple(_head_faults(head, rows.line_num))
        begun = rows.line_num + 1
        if not all(map(_is_utf8, head)):
            rows = iter(())  # type: ignore[assignment]  # no row can be read
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


def _head_faults(head: list[str], line: int) -> Iterator[Found]:
    if not all(map(_is_utf8, head)):
        yield Found("unreadable-file", line, "not UTF-8: the head", "save the file as UTF-8")
    else:
        yield from _twice(head, line)


def _twice(names: Iterable[str], line: int) -> Iterator[Found]:
    seen = set()
    for name in names:
        if name in seen:
            yield Found("unreadable-file", line, f"column {shown_key(name)} stands twice", "give each column a name of its own")
            return
        seen.add(name)


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
    other = other_than_text(file.getvalue()[:HEAD].removeprefix(b"PAR1"))  # a pointer of git-lfs, mostly
    if other is not None:
        yield Piece(b"", found=(other,))
        return
    row = 1
    try:
        table = parquet.ParquetFile(file)
        twice = tuple(_twice(table.schema_arrow.names, 1))
        if twice:
            yield Piece(b"", found=twice)
            return
        for batch in table.iter_batches(batch_size=ROWS):
            yield _piece_of(batch, row)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        yield Piece(b"", found=(Found("unreadable-file", row, f"not Parquet: {error}", "write the file again"),))


def _piece_of(batch: Any, row: int) -> Piece:
    """The piece of a batch of rows whose first one has this number."""
    found: list[Found] = []
    told = list(_lines_of(batch, row, found))
    return Piece("\n".join(line for _, line in told).encode(), [number for number, _ in told], tuple(found))


def _lines_of(batch: Any, row: int, found: list[Found]) -> Iterator[tuple[int, str]]:
    """Each row's number and its line; what is wrong with a row that has none goes into `found`."""
    try:
        lines = [json.dumps(_plain(values), ensure_ascii=False, default=str) for values in batch.to_pylist()]
    except (ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            middle = batch.num_rows // 2
            yield from _lines_of(batch.slice(0, middle), row, found)
            yield from _lines_of(batch.slice(middle), row + middle, found)
        elif isinstance(error, UnicodeDecodeError):
            found.append(Found("not-utf8", row, "not UTF-8: a value of this row", "write texts as UTF-8"))
        else:  # a time beyond what Python's can hold
            text = f"a value of this row can't be read: {error}"
            found.append(Found("unreadable-file", row, text, "write times as texts, or leave their column out"))
        return
    yield from enumerate(lines, start=row)


def _plain(value: Any) -> Any:
    """The value in JSON, without what is null or no number. Raises UnicodeDecodeError."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not _is_nothing(item)}
    if isinstance(value, list):
        return list(map(_plain, value))
    return value.decode() if isinstance(value, bytes) else value


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
