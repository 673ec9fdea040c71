"""Datasets -> the text that the model's trainer reads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.graph import Step, marker_of
from ollamake.records.records import Record
from ollamake.records.text import render
from ollamake.stages.validate import read_marker, records_by_file
from ollamake.state.files import write_whole
from ollamake.state.receipts import READ


def convert(step: Step, model: Model) -> dict[str, Any]:
    """Write the text of all the model's datasets. Raises FaultyFileError.

    The markers are not asked: they stand for the datasets' being without fault, unless a file was edited since.
    """
    (text,) = step.writes
    read: dict[str, str] = {}
    by_file = records_by_file(dict.fromkeys(files_of(model)), read)
    write_whole(Path(text), text_of(step, model, by_file))
    return {"data": [{"name": dataset.name, **read_marker(marker_of(dataset))} for dataset in model.data], READ: read}


def text_of(step: Step, model: Model, by_file: Mapping[str, list[Record]]) -> str:
    """The text of these records, in the order in which the catalog names the datasets."""
    records = chain.from_iterable(by_file[path] for path in files_of(model))
    return "".join(render(records, step.keys["text format"], model.train.system))


def files_of(model: Model) -> list[str]:
    """The files of all datasets of the model, in their order."""
    return [path for dataset in model.data for path in dataset.files]
