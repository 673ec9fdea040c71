"""Records that are almost the same, by MinHash: an estimate of how much of their texts they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ollamake.catalog import Dataset
from ollamake.errors import BuildError, Mark
from ollamake.records.formats import Record
from ollamake.records.rules import Found
from ollamake.stages.reading import examples_of

SIMILARITY = 0.85  # of the sets of word triples: their share in common (Jaccard)
HASHES, BANDS, SEED = 128, 16, 1  # the estimate is 0.03 off, one time in three; with these bands, what is more alike than 0.85 is rarely missed
WORDS = 3


def near_repeats(dataset: Dataset) -> Iterator[tuple[str, Found]]:
    """The records, each beside its file, that are almost one before them and not quite. Raises BuildError where the library is not there."""
    try:
        from rensa import RMinHash, RMinHashLSH
    except ImportError as error:
        msg = f"{dataset.mark}: dataset {dataset.name!r}: what finds near-duplicates is not installed"
        raise BuildError(msg, fix="pip install 'ollamake[near]', or take `near-duplicates` out of the dataset's `rules`") from error
    known = RMinHashLSH(SIMILARITY, HASHES, BANDS)
    seen: list[tuple[Any, Mark, Record]] = []
    for example in examples_of(dataset, {}):
        sketch = RMinHash(HASHES, SEED)
        sketch.update(_triples(example.record))
        found = [(sketch.jaccard(seen[number][0]), -number) for number in known.query(sketch)]
        likeness, number = max(found, default=(0.0, 0))
        if likeness >= SIMILARITY:
            _, mark, record = seen[-number]
            if record != example.record:  # else it is said as a duplicate
                text = f"about {likeness:.0%} the same as {mark}"
                yield example.path, Found("near-duplicates", example.mark.line, text, "keep one of the two, or make them say different things")
        known.insert(len(seen), sketch)
        seen.append((sketch, example.mark, example.record))


def _triples(record: Record) -> list[str]:
    words = " ".join(record.parts()).casefold().split()
    return [" ".join(words[place : place + WORDS]) for place in range(max(1, len(words) - WORDS + 1))]
