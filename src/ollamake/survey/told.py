"""Values as a report tells them."""

from __future__ import annotations

from collections.abc import Iterable

from ollamake.spelling import counted

SHORT = 12  # hex digits of a digest


def size(count: int | None) -> str:
    """Bytes for people: `12 KB`, `1.4 GB`; empty where it is not known."""
    if count is None:
        return ""
    if count < 1000:
        return counted(count, "byte")
    value = float(count)
    for unit in ("KB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"


def when(moment: str | None) -> str:
    """`2026-11-26 19:05 UTC`, of what a receipt says; empty where it is not known."""
    return f"{moment[:10]} {moment[11:16]} UTC" if moment and len(moment) >= 16 else moment or ""


def said(facts: Iterable[tuple[str, str | None]]) -> tuple[tuple[str, str], ...]:
    """Labels and texts, without those that say nothing."""
    return tuple((label, text) for label, text in facts if text)
