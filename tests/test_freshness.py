"""Reasons, as they are said."""

from __future__ import annotations

from typing import Any

import pytest

from ollamake.freshness import Reason

OPENING, PARCELS = {"name": "opening", "chat": [{"role": "user", "content": "When? " * 20}], "expect": {"contains": ["9"]}}, {"name": "parcels"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ([OPENING], [{**OPENING, "expect": {"contains": ["10"]}}], "tests: opening changed"),
        ([OPENING], [OPENING, PARCELS], "tests: parcels is new"),
        ([OPENING], [], "tests: opening is gone"),
        ([OPENING], [PARCELS], "tests: parcels is new, opening is gone"),
        ([OPENING, PARCELS], [PARCELS, OPENING], "tests: their order changed"),
        ([], [{"name": str(number)} for number in range(7)], "tests: 0 is new, 1 is new, 2 is new, 3 is new, 4 is new and 2 more"),
        (None, 1, "tests: nothing -> 1"),
    ],
)
def test_changed_tests_are_told_by_their_names(old: Any, new: Any, said: str) -> None:
    reason = Reason(kind="key", what="tests", old=old, new=new)
    assert str(reason) == said
    if old is not None:
        assert (reason.as_json()["old"], reason.as_json()["new"]) == (old, new)
