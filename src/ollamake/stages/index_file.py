"""The index of a dataset on the disk: a row of each record, and what was found in each piece of its files, so that the next check reads only what is new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from xxhash import xxh3_128, xxh3_128_hexdigest

from ollamake.digest import digest_value
from ollamake.graph import index_path, rows_path
from ollamake.records.block import ROW, Block, Rows
from ollamake.records.formats import Layout
from ollamake.records.rules import Findings, Found
from ollamake.stages.piece import Piece

VERSION = 1  # raised when a piece comes to be checked otherwise
CHUNK = 1 << 16  # rows that are read at once


class RowFile:
    """The rows of a dataset in an open file, from the first one; gone through as often as is wanted."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def __iter__(self) -> Iterator[Rows]:
        start = 0
        while len(rows := self.read(start, CHUNK)):
            yield rows
            start += len(rows)

    def read(self, start: int, count: int) -> Rows:
        """These rows, as far as they are there."""
        self.file.seek(start * ROW.itemsize)
        rows = np.empty(count, ROW)
        return rows[: self.file.readinto(rows.view(np.uint8)) // ROW.itemsize]  # type: ignore[attr-defined]  # files have it


def name_of(piece: Piece) -> str:
    """What a piece is known by, in whichever place of a file it stands."""
    numbers = "" if piece.numbers is None else f"-{xxh3_128_hexdigest(np.array(piece.numbers, np.uint32).tobytes())}"
    return f"{xxh3_128_hexdigest(piece.lines)}{numbers}"


def checks_of(layout: Layout, schema: Any) -> str:
    """The digest of all that decides what is found in a piece."""
    return digest_value({"version": VERSION, "format": layout.format.name, "fields": dict(layout.fields), "schema": schema})


def entry_of(name: str, block: Block, *, start: int, before: int) -> dict[str, Any]:
    """What is noted of a piece, whose rows begin at `start`, behind this many lines of its file."""
    entry: dict[str, Any] = {
        "piece": name,
        "start": start,
        "count": len(block.rows),
        "before": before,
        "lines": block.lines,
        "left_out": block.left_out,
    }
    if block.findings.counts:
        found = [[one.rule, one.line, one.text, one.fix] for one in block.findings.first]
        entry["findings"] = {"counts": block.findings.counts, "first": found}
    return entry


def index_text(facts: Mapping[str, Any], rows: BinaryIO) -> str:
    """What the index says, on one line, and below it the checksum of that: what is damaged on the disk counts for nothing."""
    text = json.dumps({**facts, "rows sum": _sum_of(rows)}, separators=(",", ":"))
    return f"{text}\n{xxh3_128_hexdigest(text.encode())}\n"


def _sum_of(file: BinaryIO) -> str:
    digest = xxh3_128()
    file.seek(0)
    while content := file.read(CHUNK * ROW.itemsize):
        digest.update(content)
    return digest.hexdigest()


class KnownIndex:
    """The index that the last check has left, as far as it can be used."""

    def __init__(self, marker: str) -> None:
        self.facts: Mapping[str, Any] = {}
        self.file: BinaryIO | None = None
        with suppress(OSError, ValueError):
            text, _, checksum = Path(index_path(marker)).read_text(encoding="utf-8").partition("\n")
            if checksum.strip() == xxh3_128_hexdigest(text.encode()):
                facts = json.loads(text)
                self.file = Path(rows_path(marker)).open("rb")  # noqa: SIM115 - it is let go of by close()
                if _sum_of(self.file) == facts["rows sum"]:
                    self.facts = facts
                else:
                    self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def blocks(self, checks: str) -> Mapping[str, Mapping[str, Any]]:
        """The entries by their pieces' names; none where they were checked otherwise."""
        if self.file is None or self.facts.get("checks") != checks:
            return {}
        return {entry["piece"]: entry for file in self.facts["files"] for entry in file["pieces"]}

    def block(self, entry: Mapping[str, Any]) -> Block:
        """The block that an entry stands for."""
        assert self.file is not None  # it has entries
        rows = RowFile(self.file).read(entry["start"], entry["count"])
        rows["line"] -= np.uint32(entry["before"])
        noted = entry.get("findings", {"counts": {}, "first": []})
        return Block(rows, Findings(dict(noted["counts"]), [Found(*one) for one in noted["first"]]), entry["lines"], entry["left_out"])

    def rows_of(self, path: str) -> Rows | None:
        """The rows of a file of the dataset; None where nothing is known of it."""
        start = 0
        for file in self.facts.get("files", []):
            if file["path"] == path and self.file is not None:
                return RowFile(self.file).read(start, file["records"])
            start += file["records"]
        return None

    @property
    def parts(self) -> list[str]:
        """What the parts of a record are called."""
        return list(self.facts.get("parts", []))
