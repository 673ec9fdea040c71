"""Words: what somebody meant who wrote something else, and how many of a thing there are."""

from __future__ import annotations

from collections.abc import Iterable

MOST_LISTED = 24


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name: the nearest known one, then those that there are."""
    names = sorted(known)
    close = closest(name, names)
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = f"{', '.join(names[:MOST_LISTED])}{more}" or "none"
    return f"write {close!r} (known: {listed})" if close is not None else f"known: {listed}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The nearest known name; None where none is near."""
    from difflib import get_close_matches  # a build without work does without it

    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def sized(count: float) -> str:
    """Bytes for people, in thousands as Ollama writes them: `1 byte`, `3.5 KB`, `12 MB`."""
    if count < 1000:
        return counted(round(count), "byte")
    for unit in ("KB", "MB", "GB"):
        count /= 1000
        if count < 999.5 or unit == "GB":
            break
    return f"{count:.1f} {unit}" if count < 9.95 else f"{count:,.0f} {unit}"


def counted(count: int, thing: str) -> str:
    """`1 record`, `2 records`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
