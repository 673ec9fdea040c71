"""Dataset files -> marker: every record read, every fault named; the marker is there only when there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ollamake.digest import canonical_json
from ollamake.errors import Fault, FaultyFileError
from ollamake.graph import Step
from ollamake.records.records import Record, read_records
from ollamake.state import write_whole


def validate(step: Step) -> dict[str, Any]:
    """Check the dataset and write its marker: the digest of the records in their canonical form, and their number. Raises FaultyFileError."""
    (marker,) = step.writes
    Path(marker).unlink(missing_ok=True)  # a marker never stands beside a dataset with faults
    records, faults = records_of(step.reads)
    if faults:
        raise FaultyFileError(faults)
    digest = hashlib.sha256()
    for record in records:
        digest.update(canonical_json(record.as_json()).encode() + b"\n")
    facts = {"digest": f"sha256:{digest.hexdigest()}", "records": len(records)}
    write_whole(Path(marker), json.dumps(facts, indent=2, sort_keys=True) + "\n")
    return {"records": len(records)}


def records_of(paths: Iterable[str]) -> tuple[list[Record], list[Fault]]:
    """The records of these files in their order, and all their faults."""
    records: list[Record] = []
    faults: list[Fault] = []
    for path in paths:
        found, wrong = read_records(Path(path).read_bytes(), path)
        records.extend(found)
        faults.extend(wrong)
    return records, faults
