"""How long a dataset's records are in the tokens of each base that is trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ollamake.catalog import Dataset, Model
from ollamake.errors import BuildError
from ollamake.report.facts import Lengths
from ollamake.stages import lengths as counting
from ollamake.stages.lengths import rendering_of
from ollamake.stages.reading import Example, examples_of
from ollamake.state.digests import file_digest

BINS = 20
COUNTED = 400  # records of a dataset, at most
LONG = 100_000  # records that are gone through for them, at most


def some_of(dataset: Dataset, records: int, count: int) -> list[Example]:
    """So many examples, evenly over the first LONG records; all where there are no more. Raises BuildError and OSError."""
    step = max(1, -(-min(records, LONG) // count))
    return list(islice(examples_of(dataset, {}), 0, LONG, step))


def lengths_of(examples: Sequence[Example], records: int, readers: Sequence[Model]) -> Iterator[Lengths]:
    """The lengths for each base: as its model with the least limit reads them. Without bases that are not here, or can't be counted for."""
    bases: dict[str, Model] = {}
    for model in readers:
        known = bases.get(model.base.name)
        if known is None or model.train.max_tokens < known.train.max_tokens:
            bases[model.base.name] = model
    for model in bases.values():
        if examples and Path(model.base.gguf).is_file():
            found = _lengths(examples, records, model)
            if found is not None:
                yield found


def _lengths(examples: Sequence[Example], records: int, model: Model) -> Lengths | None:
    try:
        lengths = counting.Lengths(model, rendering_of(model.base.gguf, file_digest(model.base.gguf)))
    except (BuildError, OSError):
        return None
    counts = [count for example in examples if (count := lengths.tokens(example.record)) is not None]
    if not counts:
        return None
    edges, bins = histogram(counts)
    return Lengths(
        base=model.base.name,
        limit=lengths.limit,
        edges=edges,
        counts=bins,
        over=sum(count > lengths.limit for count in counts),
        longest=max(counts),
        sampled=len(counts) if len(counts) < records else None,
    )


def histogram(counts: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges, one more than bins, and how many of the counts are in each bin: from its edge to below the next."""
    longest = max(counts)
    width = next(size for size in _widths() if size * BINS > longest)
    bins = [0] * (longest // width + 1)
    for count in counts:
        bins[count // width] += 1
    return tuple(width * place for place in range(len(bins) + 1)), tuple(bins)


def _widths() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
