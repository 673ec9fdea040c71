"""Datasets -> the text that the model's trainer reads."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.graph import Step, marker_of
from ollamake.records.text import render
from ollamake.stages.validate import read_marker, records_by_file
from ollamake.state.files import write_whole


def convert(step: Step, model: Model) -> dict[str, Any]:
    """Write the text of all the model's datasets. Raises FaultyFileError."""
    (text,) = step.writes
    write_whole(Path(text), text_of(step, model))
    return {"data": [{"name": dataset.name, **read_marker(marker_of(dataset))} for dataset in model.data]}


def text_of(step: Step, model: Model) -> str:
    """The text, in the order in which the catalog names the datasets. Raises FaultyFileError.

    The markers are not asked: they stand for the datasets' being without fault, unless a file was edited since.
    """
    by_file = records_by_file(path for dataset in model.data for path in dataset.files)
    records = chain.from_iterable(by_file[path] for dataset in model.data for path in dataset.files)
    return "".join(render(records, step.keys["text format"], step.keys["train.system"]))
