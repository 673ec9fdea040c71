"""Files of a dataset -> verdict. Reads them once, piece by piece; what the last check has left of a piece is not found out again."""

from __future__ import annotations

import hashlib
import heapq
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np

from ollamake.catalog import Dataset
from ollamake.errors import Mark
from ollamake.records.block import Block
from ollamake.records.mixing import fingerprints, held_out
from ollamake.records.repeats import repeats
from ollamake.records.rules import OFF, SHOWN, UNREADABLE, Findings, Found, severities
from ollamake.records.verdict import Verdict, quantiles
from ollamake.stages.checkers import Checkers
from ollamake.stages.index_file import KnownIndex, RowFile, checks_of, entry_of, name_of
from ollamake.stages.near import near_repeats
from ollamake.stages.piece import Piece
from ollamake.stages.reading import layout_of, read_schema
from ollamake.stages.sources import Source

LARGE = 1 << 25  # bytes of a dataset for which other processes are worth their start
MOST = 8  # processes
LONGEST = 1 << 20  # characters: what is longer counts as this for the quantiles


@dataclass(frozen=True, slots=True)
class Checked:
    """A dataset that was checked."""

    verdict: Verdict
    index: dict[str, Any]  # what index_path holds
    read: dict[str, str]  # file -> digest of what was read of it


def check(dataset: Dataset, known: KnownIndex, rows: BinaryIO, *, processes: int | None = None) -> Checked:
    """Check all records; their rows go into `rows`. `processes` is how many work at it, where the machine does not decide. Raises BuildError and OSError."""
    layout, schema = layout_of(dataset), read_schema(dataset)
    checks = checks_of(layout, schema)
    sums = _Sums(dataset, rows)
    read: dict[str, str] = {}
    size = sum(os.path.getsize(path) for path in dataset.files)
    helpers = (min(MOST, _cores()) if processes is None else processes) - 1 if size > LARGE else 0
    with Checkers(layout, schema, helpers) as checkers:
        for (path, name, piece), block in checkers.check(_pieces(dataset, known, checks, read)):
            sums.add(path, name, piece, block)
    findings, rules = sums.findings, severities(dataset.rules)
    for path, facts in sums.files.items():
        if not facts["records"] and all(rule == "bom" or rules[rule] == OFF for rule in findings[path].counts):
            findings[path].add(Found("empty-file", 1, "no record in the file", "write one JSON object a line, or delete the file"))
    _add_repeats(findings, {path: facts["records"] for path, facts in sums.files.items()}, rows)
    if rules["near-duplicates"] != OFF:
        for path, near in near_repeats(dataset):
            findings[path].add(near)
    verdict = Verdict(
        name=dataset.name,
        format=layout.format.name,
        findings=findings,
        severities=rules,
        digest=f"sha256:{sums.digest.hexdigest()}",
        records=sums.records,
        held_out=sums.held_out,
        left_out=sums.left_out,
        characters=quantiles(sums.lengths),
    )
    return Checked(verdict, {"checks": checks, "files": list(sums.files.values()), "parts": layout.parts}, read)


def _pieces(dataset: Dataset, known: KnownIndex, checks: str, read: dict[str, str]) -> Iterator[tuple[tuple[str, str, Piece], Piece | Block]]:
    """Each piece by its file and its name, or the block that is known of it; into `read` goes the digest of what each file held."""
    entries = known.blocks(checks)
    for path in dataset.files:
        source = Source(path)
        for piece in source.pieces():
            name = name_of(piece)
            yield (path, name, piece), known.block(entries[name]) if name in entries else piece
        read[path] = source.digest


class _Sums:
    """What is known of a dataset by its blocks, one after the other."""

    def __init__(self, dataset: Dataset, rows: BinaryIO) -> None:
        self.holdout = dataset.holdout
        self.rows = rows
        self.files: dict[str, dict[str, Any]] = {path: {"path": path, "records": 0, "lines": 0, "pieces": []} for path in dataset.files}
        self.findings = {path: Findings() for path in dataset.files}
        self.lengths = np.zeros(0, np.int64)  # how many records have this many characters
        self.digest = hashlib.sha256()
        self.records = self.held_out = self.left_out = 0

    def add(self, path: str, name: str, piece: Piece, block: Block) -> None:
        """Add the next one."""
        facts = self.files[path]
        before = facts["lines"] if piece.numbers is None else 0
        parts = block.rows["parts"]
        block.rows["line"] += np.uint32(before)
        self.rows.write(block.rows.tobytes())
        self.digest.update(parts.tobytes())
        few, many = sorted((np.bincount(np.minimum(block.rows["characters"], LONGEST)), self.lengths), key=len)
        self.lengths = many
        self.lengths[: len(few)] += few
        if self.holdout:
            self.held_out += int(held_out(fingerprints(parts), self.holdout).sum())
        self.findings[path].extend(piece.found)
        self.findings[path].merge(block.findings, lines_before=before)
        facts["pieces"].append(entry_of(name, block, start=self.records, before=before))
        facts["records"] += len(block.rows)
        facts["lines"] += block.lines
        self.records += len(block.rows)
        self.left_out += block.left_out + sum(one.rule in UNREADABLE for one in piece.found)


def _cores() -> int:
    """How many this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _add_repeats(findings: Mapping[str, Findings], records: Mapping[str, int], rows: BinaryIO) -> None:
    """Find what only all records together show."""
    paths, ends = list(records), list(accumulate(records.values()))
    rows.flush()
    file = RowFile(rows)

    def place(row: int) -> Mark:
        return Mark(paths[bisect_right(ends, row)], int(file.read(row, 1)["line"][0]))

    first: dict[str, list[tuple[int, int]]] = {"duplicates": [], "conflicts": []}  # the rows that stand first and what they repeat; as heaps
    for repeat in repeats(file, ends[-1] if ends else 0):
        rule = "duplicates" if repeat.same_answer else "conflicts"
        counts = findings[paths[bisect_right(ends, repeat.row)]].counts
        counts[rule] = counts.get(rule, 0) + 1
        (heapq.heappush if len(first[rule]) < SHOWN else heapq.heappushpop)(first[rule], (-repeat.row, repeat.first))
    for rule, found in first.items():
        for row, earlier in found:
            here, there = place(-row), place(earlier)
            if rule == "duplicates":
                one = Found(rule, here.line, f"the same record as {there}", "delete one of the two")
            else:
                one = Found(rule, here.line, f"the same prompt as {there}, with another answer", "keep the better answer")
            findings[here.path].first.append(one)
