"""Datasets -> the text that the model's trainer reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import FaultyFileError
from ollamake.graph import Step
from ollamake.records.text import render
from ollamake.stages.validate import records_of
from ollamake.state import write_whole


def convert(step: Step, model: Model) -> dict[str, Any]:
    """Write the text of all the model's datasets, in the order in which the catalog names them. Raises FaultyFileError."""
    (text,) = step.writes
    # The markers are read by nobody: they stand for the datasets' being without fault, unless a file was edited since.
    records, faults = records_of(path for dataset in model.data for path in dataset.files)
    if faults:
        raise FaultyFileError(faults)
    content = "".join(render(records, step.keys["text format"], step.keys["train.system"]))
    write_whole(Path(text), content)
    return {"records": len(records)}
