"""How a page writes values: sizes, digests, times, texts of any kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from ollamake.spelling import sized

MOST_SHOWN = 4000  # characters of one text: a page is for people
MOST_OF_A_LINE = 600
MOST_ROWS = 24
_SHORT = 12
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_WHOLE = re.compile("sha256:[0-9a-f]{64}")
# What HTML can't hold or UTF-8 can't write: controls, halves of surrogate pairs, non-characters.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with a sign in place of each character that no page may hold: NUL becomes a small `NUL`."""
    return _UNFIT.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def cut(text: str, most: int = MOST_SHOWN) -> tuple[str, int]:
    """The beginning of a text, and how many characters are left out."""
    return (text, 0) if len(text) <= most else (text[:most], len(text) - most)


def size(count: int | None) -> str:
    """Bytes for people; `-` where it is not known."""
    return "-" if count is None else sized(count)


def number(count: float | None) -> str:
    """`1,000`."""
    return "-" if count is None else f"{count:,}"


def score(value: float | None) -> str:
    """Four digits that matter."""
    return "-" if value is None else f"{value:.4g}"


def short(digest: str | None) -> str:
    """A digest as people type it."""
    return "-" if digest is None else digest.removeprefix("sha256:")[:_SHORT]


def at(time: str | None) -> str:
    """`2026-11-26 18:57`, in UTC, of an ISO time; one that is none is written as it is."""
    if time is None:
        return "-"
    return f"{time[:10]} {time[11:16]}" if _TIME.match(time) else time


def counted(count: int, thing: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def short_text(text: str) -> str:
    """A text that should be a line: its beginning, with how much is left out."""
    shown, left = cut(text, MOST_OF_A_LINE)
    return f"{shown} … {left:,} more characters" if left else shown


def bounded(value: object) -> object:
    """What a template writes: a text that is too long is cut, wherever it stands; all else as it is."""
    return short_text(value) if type(value) is str and len(value) > MOST_SHOWN else value


def address(text: str) -> str:
    """A text as it may stand in a link."""
    return quote(clean(text))


def places(steps: Sequence[object]) -> list[int]:
    """Places of at most so many of these as a table can bear; first and last among them."""
    every = max(1, len(steps) // MOST_ROWS)
    return sorted({*range(0, len(steps), every), len(steps) - 1})


def is_digest(text: str) -> bool:
    """Is it a whole digest, which a page writes in short?"""
    return _WHOLE.fullmatch(text) is not None
