"""Values as a report tells them."""

from __future__ import annotations

from collections.abc import Iterable

from ollamake.report import texts


def size(count: int | None) -> str:
    """Bytes as all pages write them; empty where it is not known."""
    return "" if count is None else texts.size(count)


def when(moment: str | None) -> str:
    """`2026-11-26 19:05 UTC`, of what a receipt says; empty where it is not known."""
    return f"{moment[:10]} {moment[11:16]} UTC" if moment and len(moment) >= 16 else moment or ""


def said(facts: Iterable[tuple[str, str | None]]) -> tuple[tuple[str, str], ...]:
    """Labels and texts, without those that say nothing."""
    return tuple((label, text) for label, text in facts if text)
