"""An answer against what is expected of it: why it is wrong, or nothing."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

from ollamake.catalog.expanded import told, written
from ollamake.catalog.tests import Expect
from ollamake.gate.quoted import shown
from ollamake.records.schema import schema_of


def wrong_with_answer(answer: str, expect: Expect, schema: Any = None) -> str | None:
    """Why the answer is not what is expected, all reasons of it; None where it is. `schema`: the JSON Schema itself, where one is expected."""
    return "; ".join(_reasons(answer, expect, schema)) or None


def wanted(expect: Expect) -> str:
    """What is expected, in a line: `contains "account settings"`."""
    case = ", in whichever case" if expect.ignore_case else ""
    found = []
    for key, value in expect.said.items():
        if key in {"contains", "not_contains"}:
            found.append(f"{key} {' and '.join(map(shown, value))}")
        elif key == "json_schema":
            found.append(f"JSON by {written(value) if isinstance(value, str) else shown(json.dumps(told(value)))}")
        elif key != "ignore_case":
            found.append(f"{key} {shown(value)}")
    return "; ".join(found) + case


def majority(rights: list[bool]) -> bool:
    """Are more than half of the answers right?"""
    return 2 * sum(rights) > len(rights)


def _reasons(answer: str, expect: Expect, schema: Any) -> Iterator[str]:
    said = _folded(answer, expect)
    lacking = [text for text in expect.contains if _folded(text, expect) not in said]
    if lacking:
        yield f"it does not contain {' nor '.join(map(shown, lacking))}"
    there = [text for text in expect.not_contains if _folded(text, expect) in said]
    if there:
        yield f"it contains {' and '.join(map(shown, there))}"
    if expect.equals is not None and said.strip() != _folded(expect.equals, expect).strip():
        yield f"it is not {shown(expect.equals)}"
    if expect.regex is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as when the catalog was read
            found = re.search(expect.regex, answer, re.IGNORECASE if expect.ignore_case else 0)
        if found is None:
            yield f"nothing in it matches {shown(expect.regex)}"
    if schema is not None:
        yield from _json_reasons(answer, schema)


def _folded(text: str, expect: Expect) -> str:
    return text.casefold() if expect.ignore_case else text


def _json_reasons(answer: str, schema: Any) -> Iterator[str]:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        yield f"it is not JSON: {error}"
        return
    held_to = schema_of(schema, "the test's")
    assert held_to is not None  # there is a schema
    found = held_to(value, 1)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield f"it breaks the JSON Schema: {found[0].text}{more}"
