"""A dataset of a test, checked as a build checks it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.catalog.values import Dataset
from ollamake.errors import Mark
from ollamake.records.block import Rows
from ollamake.records.verdict import Verdict
from ollamake.stages.checking import check
from ollamake.stages.index_file import KnownIndex, RowFile


def dataset_of(files: Mapping[str, bytes], **settings: Any) -> Dataset:
    """The dataset of these files, written into the working directory."""
    for path, content in files.items():
        Path(path).write_bytes(content)
    return Dataset(name="tone", files=tuple(files), mark=Mark("models.yaml", 1), **settings)


def checked(dataset: Dataset, *, processes: int = 1) -> tuple[Verdict, Rows]:
    """What a check finds without an index, and the rows of the records."""
    with io.BytesIO() as rows:
        found = check(dataset, KnownIndex("nothing.json"), rows, processes=processes).verdict
        return found, RowFile(rows).read(0, found.records)


def said(files: Mapping[str, bytes], **settings: Any) -> str:
    """All that a check says of these files."""
    verdict, _ = checked(dataset_of(files, **settings))
    return "\n".join(map(str, [*verdict.faults, *verdict.warnings]))
