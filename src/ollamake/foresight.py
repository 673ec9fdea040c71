"""What the plan is told: how steps look, what the cheap ones would make, how long things took. Reads files; changes nothing.

What reads records is imported where a dataset changed: numpy and tokenizers take longer to be imported than all else takes where none did.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ollamake import freshness
from ollamake.cache.key import key_now
from ollamake.catalog import Dataset, Model
from ollamake.digest import canonical_json, digest_bytes
from ollamake.drift import refused_by_policy, refused_mixture
from ollamake.errors import BuildError, Fault, FaultyFileError
from ollamake.freshness import Reason, Record, Sight
from ollamake.graph import Step, marker_of
from ollamake.records.rules import ERROR
from ollamake.sights import Sights
from ollamake.spelling import counted
from ollamake.state.digests import file_digest
from ollamake.state.files import read_object
from ollamake.state.receipts import Receipt, read_receipt
from ollamake.untrained import not_fetched

if TYPE_CHECKING:
    from ollamake.records.block import Rows
    from ollamake.stages.checking import Checked


class Foresight:
    """Of one catalog. What is looked up once is kept."""

    def __init__(self, sights: Sights, steps: tuple[Step, ...], *, times: bool = True) -> None:
        """`times`: are they asked for, and which trainings a cache may spare? By the receipts of all steps, where a step has none of its own."""
        self.times = times
        self.sights = sights
        self.steps = steps
        self._counts: dict[str, int] = {}  # dataset -> records that it will have
        self._texts: dict[str, tuple[str, ...]] = {}  # what decides a text -> its digest
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

    def refusal(self, step: Step, why: Collection[Reason], *, anew: bool, lacking: bool) -> str | None:
        """Why the step won't be done: its base is another one, or what it has made was not fetched.

        `anew`: will or may what it reads be made anew before? `lacking`: is it known that the cache has not got what it would make?
        """
        cache = self.sights.catalog.cache
        lost = None if cache is not None and cache.read and not lacking else not_fetched(step, why)
        refused = refused_by_policy(self.sights, step, self.steps) or (None if anew else refused_mixture(self.sights, step)) or lost
        return None if refused is None else "; ".join(map(str.strip, str(refused).partition("\n  fix:")[0].splitlines()))

    def outcome(self, step: Step) -> Mapping[str, str] | str | None:
        """What a validation or conversion will make: they are cheap enough to be done in memory. What fails, in a line."""
        try:
            if step.stage == "validate":
                assert isinstance(step.subject, Dataset)
                verdict = checked_now(step.subject, step.writes[0])[0].verdict
                self._counts[step.name] = verdict.records
                return {step.writes[0]: digest_bytes(verdict.marker.encode())} if not verdict.faults else _first(verdict.faults)
            if step.stage == "convert":
                return dict(zip(step.writes, self._text_digests(step), strict=True))
        except FaultyFileError as error:
            return _first(error.faults)
        except BuildError as error:
            return str(error).partition("\n")[0]
        except OSError:
            return None
        return None

    def _text_digests(self, step: Step) -> tuple[str, ...]:
        """The digests of the text, and of that of the records that are held out; models that share their datasets mostly share them too."""
        model = step.subject
        assert isinstance(model, Model)
        known = canonical_json(
            {**step.keys, "system": model.train.system, "files": [dataset.files for dataset in model.data], "base": file_digest(model.base.gguf)}
        )
        if known not in self._texts:
            from ollamake.stages.convert import holdout_of, leaks_of, lengths_of, text_of

            leaks_of(model)
            pieces = (text_of(step, model, lengths_of(model), {}), holdout_of(step, model))
            self._texts[known] = tuple(_digest(some) for some in pieces[: len(step.writes)])
        return self._texts[known]

    def seconds(self, step: Step) -> float | None:
        """What the step took the last time, or what others of its stage took; trainings by the records that they read."""
        if not self.times:
            return None
        receipt = self.receipt(step)
        if step.stage != "train":
            return receipt.seconds if receipt else self._usual.get(step.stage)
        now = self._read_by(step)
        own = _seconds_a_record(receipt)
        rate = own if own is not None else self._usual.get(f"train {step.keys['train.trainer']}")
        if rate is None or now is None:
            return receipt.seconds if receipt and receipt.seconds else None
        return round(rate * now, 1)

    def shared(self, step: Step, coming: Mapping[str, str]) -> str | None:
        """Where the catalog's cache has what the training will make, if it has; None where nobody can tell. `coming`: inputs that will be others."""
        cache = self.sights.catalog.cache
        if cache is None or not cache.read or not self.times:
            return None
        assert isinstance(step.subject, Model)
        sight = self.sights.sight(step, None)
        key = key_now(self.remembered(step), replace(sight, inputs={**sight.inputs, **coming}), step.subject)
        return None if key is None else key.path

    def receipt(self, step: Step) -> Receipt | None:
        """The step's receipt."""
        if step.id not in self._receipts:
            self._receipts[step.id] = read_receipt(self.sights.receipt_path(step))
        return self._receipts[step.id]

    def _read_by(self, step: Step) -> int | None:
        """How many records a training reads in all its epochs."""
        assert isinstance(step.subject, Model)
        counts = [self._counts.get(dataset.name, read_object(Path(marker_of(dataset))).get("records")) for dataset in step.subject.data]
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


def _digest(pieces: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.encode())
    return f"sha256:{digest.hexdigest()}"


def _first(faults: Sequence[Fault]) -> str:
    return f"{faults[0].mark}: {faults[0].text}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")


def explained(sights: Sights, step: Step, reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """The reasons with all that can be said of them: where the catalog says a new value, and which records of a dataset changed."""
    return tuple(_explained(sights, step, reason) for reason in reasons)


def _explained(sights: Sights, step: Step, reason: Reason) -> Reason:
    if reason.kind == "key":
        return replace(reason, mark=sights.catalog.mark_of(step.name, reason.what))
    if reason.kind == "input changed" and step.stage == "validate":
        path = next(path for name, path in step.named_reads.items() if name == reason.what)
        assert isinstance(step.subject, Dataset)
        return replace(reason, detail=_what_changed(step.subject, step.writes[0], path))
    return reason


def _what_changed(dataset: Dataset, marker: str, path: str) -> str:
    """What became of the records of this file since the dataset was last validated; empty where that is not known."""
    from ollamake.records.index import difference
    from ollamake.stages.index_file import KnownIndex

    known = KnownIndex(marker)
    try:
        before = known.rows_of(path)
        if before is None:
            return ""
        checked, now = checked_now(replace(dataset, files=(path,)), marker)
        count = sum(checked.verdict.counts(ERROR).values())
        more = f", {counted(count, 'fault')}" if count else ""
        return f"{difference(before, now, known.parts)}{more}"
    except (BuildError, OSError):
        return ""
    finally:
        known.close()


def checked_now(dataset: Dataset, marker: str) -> tuple[Checked, Rows]:
    """What a check of the dataset finds, and the rows of its records. Nothing is written. Raises BuildError and OSError."""
    from ollamake.stages.checking import check
    from ollamake.stages.index_file import KnownIndex, RowFile

    known = KnownIndex(marker)
    try:
        with tempfile.TemporaryFile() as file:
            checked = check(dataset, known, file)
            return checked, RowFile(file).read(0, checked.verdict.records)
    finally:
        known.close()


def _seconds_a_record(receipt: Receipt | None) -> float | None:
    if receipt is None or not receipt.seconds:
        return None
    records = sum(dataset.get("records", 0) for dataset in receipt.outcome.get("data", []))
    epochs = receipt.outcome.get("recipe", {}).get("epochs", 0)
    return receipt.seconds / (records * epochs) if records and epochs else None
