"""Pieces of a dataset's file: whole lines with a JSON value on each; and how JSON arrays become some."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ollamake.records.json_text import StrictDecoder
from ollamake.records.rules import Found

ROWS = 4096  # records of a piece where the file has none of JSON lines
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
    (b"PK\x03\x04", "a zip archive, or a table of Excel", ""),
    (b"BZh", "bzip2", ""),
    (b"\xfd7zXZ", "xz", ""),
    (b"version https://git-lfs.github.com/spec/", "a pointer of git-lfs", ""),
)
FIXES = {"UTF-16": "save it as UTF-8", "a zip archive, or a table of Excel": "unpack it, or export it as CSV", "a pointer of git-lfs": "git lfs pull"}


def other_than_text(beginning: bytes) -> Found | None:
    """What is wrong with a file that begins like this, where that is plainly no text in UTF-8."""
    for signature, kind, ending in _OTHERS:
        if beginning.startswith(signature):
            fix = f"let the file's name end with {ending}" if ending else FIXES.get(kind, "unpack it")
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
    except _BadValueError as error:
        line += text.count("\n", counted, error.place)
        said = "nested too deep" if isinstance(error.__cause__, RecursionError) else str(error.__cause__)
        found = (*found, Found("unreadable-file", line, f"not JSON: {said}", "write one JSON array of objects, or one object a line"))
    yield Piece("\n".join(lines).encode(), numbers, found)


class _BadValueError(Exception):
    """A value of an array that is JSON, and can't be taken."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place  # where it begins


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Where each value of the JSON array begins and ends. Raises JSONDecodeError and _BadValueError."""
    decoder = StrictDecoder()
    place = _skip(text, text.index("[") + 1)
    is_open = not text.startswith("]", place)
    while is_open:
        try:
            _, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise _BadValueError(place) from error
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
