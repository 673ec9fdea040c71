"""When an object was written."""

from __future__ import annotations

from datetime import datetime
from typing import Any


def written_at(facts: dict[str, Any]) -> float | None:
    """When an object was written, as each library tells it in its own way."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = facts.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
            except ValueError:
                continue
        if isinstance(value, int | float):
            return float(value)
    return None
