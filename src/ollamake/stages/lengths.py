"""How long records are in the tokens of a model's base, and what becomes of those that are too long for its training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from heapq import heappush, heapreplace
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from ollamake.catalog import Model
from ollamake.errors import BuildError, Fault, FaultyFileError
from ollamake.lora.gguf_file import read_keys
from ollamake.records.formats import Chat, Pair, Record, Text
from ollamake.records.rules import DROP, ERROR, SHOWN, TRUNCATE, severities
from ollamake.records.text import turns_of
from ollamake.records.tokens import Rendering
from ollamake.records.verdict import Breach, faults_of, quantiles
from ollamake.stages.reading import Example

SAMPLE = 1000  # records of which the tokens are counted for the quantiles
SLACK = 16  # tokens that a template or tokenizer may add to a turn beyond the bytes that it writes: none is known to add more than 3


@cache
def rendering_of(path: str, digest: str) -> Rendering:  # noqa: ARG001 - the digest is what the cache is by
    """How the base in this GGUF reads. Raises BuildError."""
    return Rendering(read_keys(Path(path), with_arrays=True))


class Lengths:
    """The lengths of one model's records, of which those that are too long are dealt with as their dataset's rule says."""

    def __init__(self, model: Model, rendering: Rendering) -> None:
        self.model = model
        self.rendering = rendering
        self.system = model.train.system
        context = rendering.context
        self.limit = min(model.train.max_tokens, context or model.train.max_tokens)
        self.limited_by = f"max_tokens {self.limit}" if self.limit == model.train.max_tokens else f"the base's context of {self.limit}"
        self.breaches: list[Breach] = []  # the first SHOWN
        self.counts = {"records": 0, ERROR: 0, DROP: 0, TRUNCATE: 0, "unknown": 0}
        self.warning: Fault | None = None
        self.refused: str | None = None  # why the first record could not be rendered
        self._sample: list[tuple[int, int, Record]] = []  # those whose fingerprints are the least: the same ones whatever is added; as a heap
        self._overheads: dict[tuple[str, ...], int] = {}

    def fitted(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that are trained on, cut where they may be. Raises FaultyFileError behind the last one, where some are too long."""
        is_empty = True
        for example in examples:
            self._note(example.record)
            self._hears_tools(example)
            fitting = example if self._surely_fits(example.record) else self._fitted(example)
            if fitting is not None:
                is_empty = False
                yield fitting
        if self.breaches:
            raise FaultyFileError(faults_of(self.breaches, self.counts[ERROR]))
        if is_empty:
            text = f"model {self.model.name!r}: no record is left to train on"
            raise FaultyFileError(
                [Fault(mark=self.model.mark, text=text, fix="look at `holdout`, `weight`, and `too-long` of the datasets' `rules`")]
            )

    def short(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples that are not too long, as far as that can be known."""
        for example in examples:
            if self._surely_fits(example.record) or (self.count(self._capped(example.record)) or 0) <= self.limit:
                yield example

    def count(self, record: Record) -> int | None:
        """The tokens of the record, as the base reads it; None where that can't be known."""
        try:
            return self._count(record)
        except BuildError as error:
            self.refused = self.refused or str(error)
            return None

    def tokens(self, record: Record) -> int | None:
        """The same of a record that may be endless: of one that is surely too long, so many that it is."""
        return self.count(self._capped(record))

    @cached_property
    def quantiles(self) -> dict[str, int]:
        """Of the tokens, by the records of the sample, when all have been told; empty where they can't be counted."""
        counts = [count for _, _, record in self._sample if (count := self.count(self._capped(record))) is not None]
        return quantiles(np.bincount(counts)) if counts else {}

    @property
    def sampled(self) -> int:
        """How many records are in the sample."""
        return len(self._sample)

    @property
    def facts(self) -> dict[str, Any]:
        """All of that, for the receipt."""
        return {**self.counts, "quantiles": self.quantiles, "sample": self.sampled, "max_tokens": self.model.train.max_tokens}

    def _fitted(self, example: Example) -> Example | None:
        record = self._capped(example.record)
        count = self.count(record)
        if count is None:
            self.counts["unknown"] += 1
        if count is None or count <= self.limit:
            return example
        policy = severities(example.dataset.rules)["too-long"]
        cut = self._cut(record, count) if policy == TRUNCATE else None
        alone = ""
        if policy == TRUNCATE and cut is None:
            policy, alone = ERROR, ", by its prompt alone: to cut the answer would leave nothing of it"
        self.counts[policy] += 1
        if policy == ERROR and len(self.breaches) < SHOWN:
            text = f"{'at least ' if record != example.record else ''}{count} tokens, more than {self.limited_by}{alone}"
            higher = f"`max_tokens: {count}` into the model's `train:`, or " if count <= (self.rendering.context or count) else ""
            fix = f"shorten it, or write {higher}`too-long: drop` into the dataset's `rules:`"
            self.breaches.append(Breach(mark=example.mark, rule="too-long", severity=ERROR, text=text, fix=fix))
        if policy == DROP:
            return None
        return example if cut is None else replace(example, record=cut)

    def _capped(self, record: Record) -> Record:
        """The record with so much of its texts as is surely too long already: nobody waits for the tokens of a file that lost its line ends."""
        most = self.limit * self.rendering.longest_token + 1
        if record.characters <= most:
            return record
        if isinstance(record, Text):
            return replace(record, text=record.text[:most])
        if isinstance(record, Pair):
            return replace(record, instruction=record.instruction[:most], input=record.input[:most], output=record.output[:most])
        return replace(record, messages=tuple({**message, "content": message["content"][:most]} for message in record.messages))

    def _hears_tools(self, example: Example) -> None:
        """Warn, once, where the template leaves out the tools of a record: the model would not learn to call them."""
        record = example.record
        if self.warning is None and isinstance(record, Chat) and record.has_tools:
            without = Chat(tuple({key: turn[key] for key in ("role", "content")} for turn in record.messages))
            with suppress(BuildError):
                segments = self.rendering.segments(record, self.system)
                if segments is not None and segments == self.rendering.segments(without, self.system):
                    fix = "train a base whose template knows tools, or take them out of the records"
                    self.warning = Fault(mark=example.mark, text="warning: the base's chat template leaves out the tools of this record", fix=fix)

    def _note(self, record: Record) -> None:
        self.counts["records"] += 1
        place = (-xxh3_64_intdigest("\0".join(record.parts()).encode()), self.counts["records"], record)
        if len(self._sample) < SAMPLE:
            heappush(self._sample, place)
        elif place[0] > self._sample[0][0]:
            heapreplace(self._sample, place)

    def _surely_fits(self, record: Record) -> bool:
        """Has it so few bytes that it can't have too many tokens?"""
        if isinstance(record, Chat) and record.has_tools:
            return False
        turns = [] if isinstance(record, Text) else turns_of(record, self.system)
        roles = tuple(turn["role"] for turn in turns)
        if roles not in self._overheads:
            probe = Chat(tuple({"role": role, "content": "x"} for role in roles)) if roles else Text("")
            try:
                self._overheads[roles] = sum(len(text.encode()) for text, _ in self.rendering.segments(probe, None) or ())
            except BuildError as error:
                self.refused = self.refused or str(error)
                return False
        texts = [record.text] if isinstance(record, Text) else [turn["content"] for turn in turns]
        return sum(len(text.encode()) for text in texts) + self._overheads[roles] + SLACK * (1 + len(roles)) <= self.limit

    def _count(self, record: Record) -> int | None:
        if self.rendering.tokenizer is None:
            return None
        segments = self.rendering.segments(record, self.system)
        return None if segments is None else sum(self.rendering.count(text) for text, _ in segments)

    def _cut(self, record: Record, count: int) -> Record | None:
        """The record with so much less of its last answer, or of its text, that it fits; None where nothing of that would be left."""
        assert self.rendering.tokenizer is not None  # its tokens were counted
        answer = record.text if isinstance(record, Text) else record.turns()[-1]["content"]
        offsets = self.rendering.tokenizer.encode(answer, add_special_tokens=False).offsets
        keep = len(offsets) - (count - self.limit)
        while keep > 0:
            shorter = answer[: offsets[keep - 1][1]].rstrip()
            cut = _with_answer(record, shorter)
            now = self._count(cut)
            if shorter and now is not None and now <= self.limit:
                return cut
            keep -= 1
        return None


def _with_answer(record: Record, answer: str) -> Record:
    if isinstance(record, Text):
        return replace(record, text=answer)
    if isinstance(record, Pair):
        return replace(record, output=answer)
    return replace(record, messages=(*record.messages[:-1], {**record.messages[-1], "content": answer}))
