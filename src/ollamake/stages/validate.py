"""Dataset files -> marker: every record read, every fault named; the marker is there only when there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ollamake.catalog import Dataset
from ollamake.errors import FaultyFileError
from ollamake.graph import Step, index_path, rows_path
from ollamake.say import say
from ollamake.stages.checking import Checked, check
from ollamake.stages.index_file import KnownIndex, index_text
from ollamake.state.files import read_object, write_whole
from ollamake.state.receipts import READ


def validate(step: Step) -> dict[str, Any]:
    """Check the dataset, and write its marker and its index; print its warnings. Raises FaultyFileError, BuildError and OSError."""
    (marker,) = step.writes
    assert isinstance(step.subject, Dataset)
    Path(marker).unlink(missing_ok=True)  # a marker never stands beside a dataset with faults
    checked = _checked(step.subject, marker)
    for warning in checked.verdict.warnings:
        say(warning)
    if checked.verdict.left_out:
        say(f"   {step.name}: {checked.verdict.left_out} of the lines are no record, and left out")
    write_whole(Path(marker), checked.verdict.marker)
    return {"records": checked.verdict.records, READ: checked.read}


def _checked(dataset: Dataset, marker: str) -> Checked:
    """Check the dataset; what is known of it now takes the place of what was."""
    rows, index = Path(rows_path(marker)), Path(index_path(marker))
    partial = rows.with_name(f".{rows.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    known = KnownIndex(marker)
    try:
        with partial.open("w+b") as file:
            checked = check(dataset, known, file)
            text = index_text(checked.index, file)
        if checked.verdict.faults:
            raise FaultyFileError(checked.verdict.faults)
        index.unlink(missing_ok=True)  # it never stands beside rows of another one
        os.replace(partial, rows)
        write_whole(index, text)
    finally:
        known.close()
        partial.unlink(missing_ok=True)
    return checked


def read_marker(path: str) -> dict[str, Any]:
    """What a marker says: `digest`, `records` and more; empty where it is not there."""
    return read_object(Path(path))
