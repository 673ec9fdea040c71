"""JSON lines as they are written: what can be seen of them, at gigabytes a second, without reading their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Places: TypeAlias = NDArray[np.intp]  # of bytes, from 0
LONGEST_LINE = 1 << 24  # bytes: no record that anything is trained on is as long
_NEWLINE, _OPENS, _CLOSES, _QUOTE, _BACKSLASH = b'\n{}"\\'


@dataclass(frozen=True, slots=True)
class Raw:
    """What is seen of lines that are valid JSON, an object on each."""

    ends: Places  # of the lines: of their line ends, or behind the last one
    quotes: int  # that open or close a text
    escapes: Places  # of the backslashes that begin an escape

    def line(self, lines: bytes, number: int) -> bytes:
        """One of the lines, from 0."""
        return lines[self.ends[number - 1] + 1 if number else 0 : self.ends[number]]


def raw_of(lines: bytes, count: int) -> Raw | None:
    """What is seen of these lines of valid JSON; None where this many objects are not each on a line of its own, without white space around it.

    None as well where one of them may be too long.
    """
    if len(lines) > LONGEST_LINE:
        return None
    text = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    if text[-1] != _NEWLINE:
        ends = np.append(ends, len(text))
    if len(ends) != count or text[0] != _OPENS or (text[ends - 1] != _CLOSES).any() or (text[ends[:-1] + 1] != _OPENS).any():
        return None
    escapes = _escapes(text)
    return Raw(ends, _quotes(text, escapes), escapes)


def quotes_of(values: bytes) -> int:
    """How many quotes open or close a text in these JSON values."""
    text = np.frombuffer(values, np.uint8)
    return _quotes(text, _escapes(text))


def _quotes(text: NDArray[np.uint8], escapes: Places) -> int:
    return int(np.count_nonzero(text == _QUOTE) - np.count_nonzero(text[escapes + 1] == _QUOTE))


def _escapes(text: NDArray[np.uint8]) -> Places:
    places = np.flatnonzero(text == _BACKSLASH)
    follows = places[1:] == places[:-1] + 1
    if not follows.any():
        return places
    # In a row of backslashes, every other one is what the one before it stands for.
    numbers = np.arange(len(places))
    begins = np.maximum.accumulate(np.where(np.append(False, follows), 0, numbers))
    return np.asarray(places[(numbers - begins) % 2 == 0])


def hidden(lines: bytes, escapes: Places) -> Places:
    """Those of the escapes that may stand for a control character, or for a character of ASCII that need not be hidden."""
    text = np.frombuffer(lines, np.uint8)
    kind = text[escapes + 1]
    short = escapes[(kind == ord("b")) | (kind == ord("f"))]
    coded = escapes[kind == ord("u")]
    low = (text[coded + 2] == ord("0")) & (text[coded + 3] == ord("0")) & (text[coded + 4] < ord("8"))
    return np.concatenate((short, coded[low]))
