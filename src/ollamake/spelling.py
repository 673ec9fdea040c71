"""What somebody meant who wrote something else."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LISTED = 24


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name: the nearest known one, then those that there are."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = f"{', '.join(names[:MOST_LISTED])}{more}" or "none"
    return f"write {close[0]!r} (known: {listed})" if close else f"known: {listed}"
