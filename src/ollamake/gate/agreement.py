"""The prompt that a model was trained with, against the one that it is served with: where they differ."""

from __future__ import annotations

from itertools import takewhile

BEFORE, BEHIND = 40, 100  # characters that are shown around the first difference


def difference_shown(trained: str, served: str) -> str:
    """Both around the place where they differ first, a line each."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(trained, served, strict=False)))
    return f"trained with: {_around(trained, same)}\nserved with:  {_around(served, same)}"


def _around(text: str, place: int) -> str:
    start, end = max(0, place - BEFORE), place + BEHIND
    shown = repr(text[start:end])
    return f"{'...' if start else ''}{shown}{'...' if end < len(text) else ''}"
