"""Moments, as all files of ollamake have them: in UTC, to the second; as texts they sort as they came."""

from __future__ import annotations

import calendar
import time

FORM = "%Y-%m-%dT%H:%M:%SZ"


def moment(seconds: float | None = None) -> str:
    """The text of so many seconds since 1970; without any, of now."""
    return time.strftime(FORM, time.gmtime(seconds))


def seconds_of(moment: str) -> float:
    """The same, back. Raises ValueError for what is no such moment."""
    return float(calendar.timegm(time.strptime(moment, FORM)))
