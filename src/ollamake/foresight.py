"""What the plan is told: how steps look, what the cheap ones would make, how long things took. Reads files; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from ollamake import freshness
from ollamake.catalog import Model
from ollamake.digest import digest_bytes
from ollamake.errors import Fault, FaultyFileError
from ollamake.freshness import Reason, Record, Sight
from ollamake.graph import Step, marker_of
from ollamake.records.index import difference, index_of
from ollamake.records.records import Record as Example
from ollamake.records.records import read_records
from ollamake.sights import Sights
from ollamake.stages.convert import files_of, text_of
from ollamake.stages.validate import index_path, marker_text, read_marker
from ollamake.state.files import read_object
from ollamake.state.receipts import Receipt, read_receipt, receipt_path


class Foresight:
    """Of one catalog. What is looked up once is kept."""

    def __init__(self, sights: Sights, steps: tuple[Step, ...]) -> None:
        self.sights = sights
        self.steps = steps
        self._counts: dict[str, int] = {}  # dataset -> records that it will have
        self._read: dict[str, tuple[list[Example], list[Fault]]] = {}  # file -> what is in it
        self._texts: dict[tuple[Any, ...], str] = {}  # files, format and system prompt -> digest of the text
        self._receipts: dict[str, Receipt | None] = {}

    def remembered(self, step: Step) -> Record | None:
        """The step's record."""
        return self.sights.remembered(step)

    def sight(self, step: Step, record: Record | None) -> Sight:
        """The step as it is now."""
        return self.sights.sight(step, record)

    def brought(self, step: Step, now: Sight) -> bool:
        """Has an adapter that is there been made from what is seen here, by its own record?"""
        receipt = self.receipt(step)
        return receipt is not None and not freshness.reasons(receipt.record, self.sights.seen_beside(now, step, receipt.record))

    def keys_before(self, step: Step) -> Mapping[str, Any]:
        """What the catalog said when the step's receipt was written."""
        return self.sights.keys_before(step)

    def explained(self, step: Step, why: Iterable[Reason]) -> tuple[Reason, ...]:
        """The reasons, with the places in the catalog and the records behind them."""
        return explained(self.sights, step, why)

    def outcome(self, step: Step) -> Mapping[str, str] | str | None:
        """What a validation or conversion will make: they are cheap enough to be done in memory. What fails, in a line."""
        try:
            if step.stage == "validate":
                records = [record for path in step.reads for record in self._records(path)]
                self._counts[step.name] = len(records)
                return {step.writes[0]: digest_bytes(marker_text(records).encode())}
            if step.stage == "convert":
                return {step.writes[0]: self._text_digest(step)}
        except FaultyFileError as error:
            first, count = error.faults[0], len(error.faults)
            return f"{first.mark}: {first.text}" + (f" (and {count - 1} more)" if count > 1 else "")
        except OSError:
            return None
        return None

    def _records(self, path: str) -> list[Example]:
        if path not in self._read:
            self._read[path] = read_records(Path(path).read_bytes(), path)
        records, faults = self._read[path]
        if faults:
            raise FaultyFileError(faults)
        return records

    def _text_digest(self, step: Step) -> str:
        """The digest of the text; models that share their datasets mostly share it too."""
        assert isinstance(step.subject, Model)
        files = files_of(step.subject)
        known = (*files, step.keys["text format"], step.subject.train.system)
        if known not in self._texts:
            self._texts[known] = digest_bytes(text_of(step, step.subject, {path: self._records(path) for path in files}).encode())
        return self._texts[known]

    def seconds(self, step: Step) -> float | None:
        """What the step took the last time, or what others of its stage took; trainings by the records that they read."""
        receipt = self.receipt(step)
        if step.stage != "train":
            return receipt.seconds if receipt else self._usual.get(step.stage)
        now = self._read_by(step)
        own = _seconds_a_record(receipt)
        rate = own if own is not None else self._usual.get(f"train {step.keys['train.trainer']}")
        if rate is None or now is None:
            return receipt.seconds if receipt and receipt.seconds else None
        return round(rate * now, 1)

    def receipt(self, step: Step) -> Receipt | None:
        """The step's receipt."""
        if step.id not in self._receipts:
            self._receipts[step.id] = read_receipt(receipt_path(step, self.sights.address.file_name))
        return self._receipts[step.id]

    def _read_by(self, step: Step) -> int | None:
        """How many records a training reads in all its epochs."""
        assert isinstance(step.subject, Model)
        counts = [self._counts.get(dataset.name, read_marker(marker_of(dataset)).get("records")) for dataset in step.subject.data]
        return sum(filter(None, counts)) * step.subject.train.epochs if all(isinstance(count, int) for count in counts) else None

    @cached_property
    def _usual(self) -> dict[str, float]:
        """What steps of each stage usually take; of trainings, by trainer, each record."""
        took: dict[str, list[float]] = {}
        for step in self.steps:
            receipt = self.receipt(step)
            value = _seconds_a_record(receipt) if step.stage == "train" else receipt.seconds if receipt else None
            if value is not None:
                took.setdefault(f"train {step.keys['train.trainer']}" if step.stage == "train" else step.stage, []).append(value)
        return {what: median(values) for what, values in took.items()}


def explained(sights: Sights, step: Step, reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """The reasons with all that can be said of them: where the catalog says a new value, and which records of a dataset changed."""
    return tuple(_explained(sights, step, reason) for reason in reasons)


def _explained(sights: Sights, step: Step, reason: Reason) -> Reason:
    if reason.kind == "key":
        return replace(reason, mark=sights.catalog.mark_of(step.name, reason.what))
    if reason.kind == "input changed" and step.stage == "validate":
        path = next(path for name, path in step.named_reads.items() if name == reason.what)
        before = read_object(index_path(step.writes[0])).get(path)
        if before is not None:
            try:
                records, faults = read_records(Path(path).read_bytes(), reason.what)
            except OSError:
                return reason
            more = f", {len(faults)} fault{'' if len(faults) == 1 else 's'}" if faults else ""
            return replace(reason, detail=f"{difference(before, index_of(records))}{more}")
    return reason


def _seconds_a_record(receipt: Receipt | None) -> float | None:
    if receipt is None or not receipt.seconds:
        return None
    records = sum(dataset.get("records", 0) for dataset in receipt.outcome.get("data", []))
    epochs = receipt.outcome.get("recipe", {}).get("epochs", 0)
    return receipt.seconds / (records * epochs) if records and epochs else None
