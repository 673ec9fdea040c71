"""Receipts: what a stage leaves beside its target. They explain; whether a step is fresh, the lock says.

One of them is more: an adapter brings its receipt with it, in its own folder, so a training counts as finished from the moment at which the folder
is there, whatever becomes of the build that made it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ollamake.catalog.values import MARKERS
from ollamake.freshness import Record
from ollamake.graph import BUILD, ON_A_SERVER, Step
from ollamake.state.files import LOCAL, RECEIPT, read_object, write_whole
from ollamake.state.lock_file import is_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a step was last done from, why, and what came of it."""

    record: Record
    keys: dict[str, Any]  # what the catalog said, by the keys' names
    outcome: dict[str, Any]  # the stage's own facts
    reasons: list[str]  # why it ran
    seconds: float  # it took
    finished: str  # when: ISO 8601, in UTC
    commit: str | None  # of the repo, with `+` behind it where files were edited since


READ = "read"  # in what a stage returns: path -> digest of the bytes that it had in its hands. Goes into the record, not into the receipt
ACCEPTED = "accepted"  # in what a stage returns: why it took what was there. Goes into the record, not into the receipt's outcome
BEFORE = "seconds before"  # in what a training returns: that builds before this one have spent on it. Goes into the receipt's seconds

# Makes the receipt of a step from the digests of its targets and the stage's own facts.
Sealed: TypeAlias = Callable[[Mapping[str, str], Mapping[str, Any]], Receipt]


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in this file, or None where there is none that can be read."""
    return receipt_in(read_object(path))


def receipt_in(value: dict[str, Any]) -> Receipt | None:
    """The receipt in this object, as `facts_of` has made it, or None where it is none."""
    block = value.pop("record", None)
    if not is_block(block):
        return None
    try:
        return Receipt(record=Record.of(block), **value)
    except TypeError:
        return None


def write_receipt(path: Path, receipt: Receipt, *, durable: bool = False) -> None:
    """Keep the receipt in this file, whole or not at all."""
    write_whole(path, json.dumps(facts_of(receipt), indent=2, sort_keys=True, ensure_ascii=False) + "\n", durable=durable)


def facts_of(receipt: Receipt) -> dict[str, Any]:
    """The receipt as a JSON object."""
    return {**{name: getattr(receipt, name) for name in Receipt.__dataclass_fields__}, "record": receipt.record.as_json()}


def receipt_path(step: Step, host: str) -> Path:
    """Where a step's receipt is kept; `host` is the server's name as a file may be called."""
    if step.stage in ON_A_SERVER:
        return Path(LOCAL, "hosts", host, f"{step.stage}-{step.name}.json")
    if step.stage == "train":
        return Path(step.writes[0]).parent / RECEIPT
    name = MARKERS if step.stage == "validate" else step.name
    return Path(BUILD, name, f"{step.stage}-{step.name}.{RECEIPT}")
