"""Dataset files -> marker: every record read, every fault named; the marker is there only when there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from ollamake.digest import canonical_json, digest_bytes
from ollamake.errors import Fault, FaultyFileError
from ollamake.graph import Step
from ollamake.records.index import index_of
from ollamake.records.records import Record, read_records
from ollamake.state.files import read_object, write_whole
from ollamake.state.receipts import READ


def validate(step: Step) -> dict[str, Any]:
    """Check the dataset and write its marker and its index. Raises FaultyFileError."""
    (marker,) = step.writes
    Path(marker).unlink(missing_ok=True)  # a marker never stands beside a dataset with faults
    read: dict[str, str] = {}
    by_file = records_by_file(step.reads, read)
    index = {path: index_of(records) for path, records in by_file.items()}
    write_whole(index_path(marker), json.dumps(index, separators=(",", ":")))
    records = list(chain.from_iterable(by_file.values()))
    write_whole(Path(marker), marker_text(records))
    return {"records": len(records), READ: read}


def marker_text(records: Iterable[Record]) -> str:
    """The marker of a dataset with these records: the digest of their canonical form, and their number."""
    digest, count = hashlib.sha256(), 0
    for record in records:
        digest.update(canonical_json(record.as_json()).encode() + b"\n")
        count += 1
    return json.dumps({"digest": f"sha256:{digest.hexdigest()}", "records": count}, indent=2, sort_keys=True) + "\n"


def read_marker(path: str) -> dict[str, Any]:
    """What a marker says: `digest` and `records`; empty where it is not there."""
    return read_object(Path(path))


def index_path(marker: str) -> Path:
    """Where the index of the records lies that a marker stands for."""
    return Path(marker).with_suffix(".index.json")


def records_by_file(paths: Iterable[str], read: dict[str, str] | None = None) -> dict[str, list[Record]]:
    """The records of each of these files; into `read` goes the digest of what each held. Raises FaultyFileError with all faults of all of them."""
    records: dict[str, list[Record]] = {}
    faults: list[Fault] = []
    for path in paths:
        content = Path(path).read_bytes()
        if read is not None:
            read[path] = digest_bytes(content)
        records[path], wrong = read_records(content, path)
        faults.extend(wrong)
    if faults:
        raise FaultyFileError(faults)
    return records
