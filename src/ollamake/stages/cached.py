"""A training, or in its place what the cache has of just that: looked up before anything waits for a GPU, and put there when it is delivered."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ollamake.cache.key import ADAPTERS, Key, is_shared, key_of
from ollamake.cache.objects import PRINTS, Manifest
from ollamake.cache.shared import SharedCache
from ollamake.cache.verified import DamagedError
from ollamake.catalog import Model
from ollamake.catalog.expanded import told
from ollamake.catalog.outside import SinkPlace
from ollamake.digest import digest_file
from ollamake.duration import duration
from ollamake.errors import BuildError
from ollamake.freshness import Reason
from ollamake.graph import VERSIONS, Step
from ollamake.lora.architecture import read_architecture
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.whole_weights import WholeWeights
from ollamake.moments import moment, seconds_of
from ollamake.say import say
from ollamake.stages.delivery import data_of, deliver, finished, place_for
from ollamake.stages.jobs import clear_jobs
from ollamake.stages.preflight import MarkOf
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import Receipt, Sealed, facts_of, receipt_in, write_receipt
from ollamake.untrained import not_trained

CACHE = "cache"  # in the outcome of a training that was done elsewhere: when it was taken, and how long that took
TAKEN = "taken-"  # how a folder begins that is being filled, beside the text
LONGEST = 200  # characters of a version, or of the name of a model
_COMMIT = re.compile(r"[0-9a-f]{7,64}\+?")


def trained(
    step: Step,
    model: Model,
    begin: Callable[[], Sealed],
    is_current: Callable[[Receipt], bool],
    mark_of: MarkOf,
    *,
    cache: SharedCache | None,
    pinned: Mapping[str, Any],
    reasons: Sequence[Reason],
    sinks: Sequence[SinkPlace] = (),
) -> Receipt:
    """What `train` makes, or what the cache has of it. Raises BuildError. `pinned`: versions of which another trains again.

    Without `reasons` it is trained, whatever is there. What git-lfs has, and has not fetched, is not trained anew. `sinks` are told of what is trained here, and of nothing that was trained elsewhere.
    """
    if cache is not None and is_shared(model) and reasons:
        taken = _taken(step, model, begin, is_current, cache=cache, pinned=pinned)
        if taken is not None:
            clear_jobs(step)
            keep(step, model, taken, cache=cache, pinned=pinned)  # where a build that was killed had trained it here
            return taken
    if (refusal := not_trained(step, reasons)) is not None:
        raise refusal
    from ollamake.stages.train import train

    receipt = train(step, model, begin, is_current, mark_of, sinks=sinks)
    keep(step, model, receipt, cache=cache, pinned=pinned)
    return receipt


def taken_up(step: Step, receipt: Receipt, *, cache: SharedCache | None, pinned: Mapping[str, Any]) -> None:
    """End a training that is in its place already: a build that was ended may have delivered it, and not put it into the cache any more. Raises OSError."""
    assert isinstance(step.subject, Model)
    clear_jobs(step)
    keep(step, step.subject, receipt, cache=cache, pinned=pinned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A training that is here, as a cache takes it."""

    key: Key
    folder: Path
    digests: Mapping[str, str]  # of its files
    facts: Mapping[str, Any]  # its receipt


def offered(step: Step, receipt: Receipt, pinned: Mapping[str, Any]) -> Offer | None:
    """What was trained, or taken; None where nobody knows what it was trained on. Raises OSError."""
    record = receipt.record
    key = key_of(ADAPTERS, record, {name: record.versions.get(name) for name in pinned})
    if key is None or record.edited or record.accepted is not None:
        return None
    folder = Path(step.writes[0]).parent
    digests = {Path(path).name: digest for path, digest in record.targets.items()}
    if (folder / PRINTS).is_file():
        digests[PRINTS] = digest_file(folder / PRINTS)
    outcome = {name: value for name, value in receipt.outcome.items() if name != CACHE}  # from where it came to this machine
    return Offer(key=key, folder=folder, digests=digests, facts=facts_of(replace(receipt, outcome=outcome)))


def keep(step: Step, model: Model, receipt: Receipt, *, cache: SharedCache | None, pinned: Mapping[str, Any]) -> None:
    """Put into the cache, if there is one, what was trained here. Raises OSError."""
    if cache is None or not cache.writes or not is_shared(model) or CACHE in receipt.outcome:
        return
    offer = offered(step, receipt, pinned)
    if offer is not None:
        cache.keep(offer.key, offer.folder, offer.digests, offer.facts)


def _taken(
    step: Step,
    model: Model,
    begin: Callable[[], Sealed],
    is_current: Callable[[Receipt], bool],
    *,
    cache: SharedCache,
    pinned: Mapping[str, Any],
) -> Receipt | None:
    """The receipt of the adapter that the cache has, which is in its place then; None where it has none. Raises BuildError."""
    place, beside = place_for(Path(step.writes[0]).parent), Path(step.reads[0]).parent
    for left in beside.glob(f"{TAKEN}*"):  # by a build that was killed
        shutil.rmtree(left, ignore_errors=True)
    here = finished(step, place, is_current)
    if here is not None or not cache.reads:
        return here
    begun, sealed = time.monotonic(), begin()
    wanted = sealed({}, {}).record
    key = key_of(ADAPTERS, wanted, pinned)
    if key is None:
        return None
    folder = Path(tempfile.mkdtemp(dir=beside, prefix=TAKEN))
    try:
        manifest = cache.take(key, folder, lambda manifest: _check(manifest, key, step, pinned), what=model.name)
        if manifest is None:
            return None
        try:
            _read(folder, step, model)
        except BuildError as error:
            cache.refuse(key, str(error).replace(f"{folder}/", ""), what=model.name)
            return None
        theirs = _receipt(manifest)
        targets = {path: next(entry.digest for entry in manifest.files if entry.name == Path(path).name) for path in step.writes}
        taken = {"taken": moment(), "seconds": round(time.monotonic() - begun, 3)}
        facts: dict[str, Any] = {name: theirs.outcome[name] for name in ("steps", "start") if name in theirs.outcome}
        outcome = {
            "trainer": told(model.train.trainer),
            "recipe": told(model.train.recipe),
            **facts,
            "data": data_of(step),
            CACHE: taken,
        }
        ours = sealed(targets, outcome)
        # Of the training, wherever it was: when it ended, what it took, by which versions.
        record = replace(ours.record, versions=theirs.record.versions)
        receipt = replace(ours, record=record, seconds=theirs.seconds, finished=theirs.finished, commit=theirs.commit)
        write_receipt(folder / RECEIPT, receipt, durable=True)
        deliver(folder, place, step)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    day = f"{receipt.finished[:10]} {receipt.finished[11:16]} UTC"
    say(f"   {model.name}: from the cache: trained {day}, in {duration(receipt.seconds)}")
    return receipt


def _read(folder: Path, step: Step, model: Model) -> None:
    """Read what was taken as what is trained here. Raises BuildError."""
    architecture = read_architecture(Path(model.base.gguf))
    if len(step.writes) > 1:
        read_peft_adapter(folder, architecture)
    else:
        WholeWeights(folder / Path(step.writes[0]).name, architecture.head)


def _check(manifest: Manifest, key: Key, step: Step, pinned: Mapping[str, Any]) -> None:
    """Raise DamagedError where an object is not of the training that is wanted."""
    receipt = _receipt(manifest)
    record = receipt.record
    if record.edited or record.accepted is not None:
        msg = "nobody knows what it was trained on"
        raise DamagedError(msg)
    if key_of(ADAPTERS, record, {name: record.versions.get(name) for name in pinned}) != key or record.versions.get("train") != VERSIONS["train"]:
        msg = "its receipt is of another training"
        raise DamagedError(msg)
    made = {Path(path).name: digest for path, digest in record.targets.items()}
    if {entry.name: entry.digest for entry in manifest.files if entry.name != PRINTS} != made or set(made) != {
        Path(path).name for path in step.writes
    }:
        msg = "its files are not those of its receipt"
        raise DamagedError(msg)


def _receipt(manifest: Manifest) -> Receipt:
    """The receipt in it, with nothing that is not of a receipt's form. Raises DamagedError."""
    receipt = receipt_in(dict(manifest.facts))
    if receipt is None or not (
        isinstance(receipt.seconds, int | float)
        and 0 <= receipt.seconds < 1e9
        and _is_moment(receipt.finished)
        and (receipt.commit is None or (isinstance(receipt.commit, str) and _COMMIT.fullmatch(receipt.commit)))
        and isinstance(receipt.outcome, dict)
        and isinstance(receipt.outcome.get("steps", 0), int)
        and all(_is_plain(name) and (isinstance(version, int) or _is_plain(version)) for name, version in receipt.record.versions.items())
        and _is_start(receipt.outcome.get("start", {}))
    ):
        msg = "its receipt can't be read"
        raise DamagedError(msg)
    return receipt


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and moment(seconds_of(value)) == value
    except ValueError:
        return False


def _is_start(value: Any) -> bool:
    kinds: dict[str, type] = {"from": str, "chain": int, "adapter": str}
    found = {name: value.get(name, kind()) for name, kind in kinds.items()} if isinstance(value, dict) else {}
    return bool(found) and all(isinstance(found[name], kind) and _is_plain(str(found[name])) for name, kind in kinds.items())


def _is_plain(text: Any) -> bool:
    """Is it a text that a terminal can be given?"""
    return isinstance(text, str) and text.isprintable() and len(text) <= LONGEST
