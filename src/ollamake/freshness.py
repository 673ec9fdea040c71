"""Why a step runs: what differs between its last receipt and now. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SHOWN = 60  # characters of a value


def reasons(
    before: tuple[Mapping[str, str], Mapping[str, Any]] | None,
    files: Mapping[str, str],
    keys: Mapping[str, Any],
    lost: Iterable[str],
) -> tuple[str, ...]:
    """The reasons to do a step again, a line each; empty where it is fresh.

    `before`: digests of the files and values of the keys that it was last done with, None where it never was; `files` and `keys`: those of now;
    `lost`: what of its results is no longer there, in words.
    """
    if before is None:
        return ("not built yet",)
    return (*lost, *_files(before[0], files), *_keys(before[1], keys))


def _files(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted({*before, *now}):
        if path not in before:
            yield f"{path} is new"
        elif path not in now:
            yield f"{path} is no longer read"
        elif before[path] != now[path]:
            yield f"{path} changed"


def _keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            yield f"{key}: {_shown(before.get(key))} -> {_shown(now.get(key))}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
