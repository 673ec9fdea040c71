"""Records as a report shows them: some, without their secrets, and not all of what is long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollamake.catalog import Dataset
from ollamake.errors import BuildError
from ollamake.records.secrets import masked
from ollamake.report.facts import Sample
from ollamake.stages.reading import Example, layout_of

SHOWN = 1500  # characters of a text
PARTS = 12  # of a record


def samples(dataset: Dataset, examples: Iterable[Example]) -> Iterator[Sample]:
    """These records of it."""
    try:
        layout = layout_of(dataset)
    except (BuildError, OSError):
        return
    for example in examples:
        texts = [(name, masked(text)) for name, text in example.record.texts(layout) if text]
        parts = tuple((masked(name), text[:SHOWN]) for name, text in texts[:PARTS])
        cut = sum(len(text) for _, text in texts) - sum(len(text) for _, text in parts)
        yield Sample(at=str(example.mark), parts=parts, cut=cut)
