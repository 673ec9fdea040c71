"""JSON as a dataset may have it: what Python takes beyond the standard, and what can't be written again, is refused."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST = 100  # values within values, the record among them: nobody means more, and Python's own limit depends on who calls
MOST_DIGITS = 400  # of a whole number: beyond what a double can hold, nobody means a number


class StrictDecoder(json.JSONDecoder):
    """Decodes JSON, and notes the keys that stand twice in an object; the last value counts. Raises ValueError and RecursionError."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        super().__init__(object_pairs_hook=self._object, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value:
                self.repeated.append(key)
            value[key] = item
        return value


def is_too_deep(value: Any) -> bool:
    """Are there more than DEEPEST values within values?"""
    layer = [value]
    for _ in range(DEEPEST):
        layer = [item for one in layer if isinstance(one, (dict, list)) for item in (one.values() if isinstance(one, dict) else one)]
        if not layer:
            return False
    return True


def is_unicode(value: Any) -> bool:
    """Can the JSON value be written as UTF-8: has no text of it half of a surrogate pair?"""
    try:
        (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(constant: str) -> None:
    msg = f"{constant} is no JSON number"
    raise ValueError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        msg = f"a number that is too large: {text[:20]}"
        raise ValueError(msg)
    return value


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        msg = f"a number of {len(text)} digits"
        raise ValueError(msg)
    return int(text)
