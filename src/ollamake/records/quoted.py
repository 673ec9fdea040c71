"""What records hold, as messages quote it: on one line, not all of what is long, and no secret."""

from __future__ import annotations

import json
import re
from typing import Any

from ollamake.records.secrets import masked, masked_value

SHOWN = 60  # characters of a value
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


def shown(value: Any) -> str:
    """A JSON value."""
    return _cut(json.dumps(masked_value(value)))


def shown_key(key: str) -> str:
    """A key of an object."""
    return _cut(repr(masked(key)) if key.isprintable() else json.dumps(masked(key)))


def path_below(at: str, key: str | int) -> str:
    """The JSON path of what stands below `at`."""
    if isinstance(key, int):
        return f"{at}[{key}]"
    return f"{at}.{key}" if _NAME.fullmatch(key) and masked(key) == key else f"{at}[{_cut(json.dumps(masked(key)))}]"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
