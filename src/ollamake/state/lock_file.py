"""`models.lock`: text <-> the blocks of all steps.

JSON with one line for each digest and one block for each step, sorted, so that git merges and reviews it. The last key is the format's version:
no block is the last one, and none ends without a comma.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeAlias

import msgspec

from ollamake.errors import Fault, FaultyFileError, Mark

FORMAT = 1
CONFLICT = re.compile(r"^(<<<<<<<|>>>>>>>|\|\|\|\|\|\|\||=======)( |$)")
_TEXTS = frozenset({str})
TAKE_A_SIDE = (
    "take one side: `git checkout --ours models.lock` or `--theirs`; then `doit` builds what differs, and repeats no training whose adapter is there"
)
TAKE_BACK = (
    "take the committed one back: `git checkout models.lock`; or delete it: `doit` repeats no training whose adapter is there with its receipt"
)

Block: TypeAlias = dict[
    str, Any
]  # {"inputs": {file: digest}, "keys": digest, "targets": {file: digest}, "versions": {name: version}} and, where so, more


def lock_text(blocks: Mapping[str, Block]) -> str:
    """The lock's text: the same blocks give the same bytes."""
    lines = ["{"]
    for step in sorted(blocks):
        lines.append(f"  {_json(step)}: {{")
        block = blocks[step]
        ends = [f"    {_json(key)}: {_value(block[key])}" for key in sorted(block)]
        lines.append(",\n".join(ends))
        lines.append("  },")
    lines.append(f'  "version": {FORMAT}')
    lines.append("}\n")
    return "\n".join(lines)


def read_lock(text: str, path: str) -> dict[str, Block]:
    """The blocks in this text, by step. Raises FaultyFileError, which names the line and the way out."""
    return _as_written(text) or _looked_through(text, path)


def _as_written(text: str) -> dict[str, Block]:
    """The blocks of a lock that is as `lock_text` writes it, in half the time; none where it may be otherwise."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    if not isinstance(value, dict) or value.pop("version", None) != FORMAT or not all(map(is_block, value.values())):
        return {}
    facts = chain.from_iterable(block.values() for block in value.values())
    lines = 3 + 2 * len(value) + sum(len(fact) + 2 if isinstance(fact, dict) and fact else 1 for fact in facts)
    return value if lines == text.count("\n") else {}  # with fewer keys than lines, one stands twice


def _looked_through(text: str, path: str) -> dict[str, Block]:
    twice: list[str] = []
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, twice))
    except json.JSONDecodeError as error:
        for number, line in enumerate(text.splitlines(), start=1):
            if CONFLICT.match(line):
                raise faulty(path, number, f"a merge has left its marks: {line[:40]!r}", TAKE_A_SIDE) from error
        raise faulty(path, error.lineno, f"not JSON: {error.msg}") from error
    if not isinstance(value, dict) or value.pop("version", None) != FORMAT:
        raise faulty(path, 1, f"not a lock of format {FORMAT}", f"{TAKE_BACK}; or use a newer ollamake")
    for key in twice:
        raise faulty(path, _line_of(text, key, last=True), f"{key!r} stands twice in one block")
    for step, block in value.items():
        if not is_block(block):
            raise faulty(path, _line_of(text, step), f"no block of a step: {step!r}")
    return value


def is_block(block: Any) -> bool:
    """Has this value the shape of a block?"""
    return (
        isinstance(block, dict)
        and isinstance(block.get("keys"), str)
        and isinstance(block.get("inputs"), dict)
        and isinstance(block.get("targets"), dict)
        and isinstance(block.get("versions"), dict)
        and _TEXTS.issuperset(map(type, block["inputs"].values()))
        and _TEXTS.issuperset(map(type, block["targets"].values()))
        and isinstance(block.get("edited", []), list)
        and isinstance(block.get("accepted", ""), str)
    )


def _value(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return _json(value)
    return "{\n" + ",\n".join(f"      {_json(key)}: {_json(value[key])}" for key in sorted(value)) + "\n    }"


def _object(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice.extend(key for key in value if keys.count(key) > 1)
    return value


def _line_of(text: str, key: str, *, last: bool = False) -> int:
    start = f"{_json(key)}:"
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if line.strip().startswith(start)]
    return (lines[-1] if last else lines[0]) if lines else 1


def faulty(path: str, line: int, text: str, fix: str = TAKE_BACK) -> FaultyFileError:
    """The error of a damaged lock."""
    return FaultyFileError([Fault(mark=Mark(path, line), text=text, fix=fix)])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
