"""`doit cache push`: what was trained, is here, and the cache has not got, goes there.

An adapter's receipt says of what it was trained, whatever the catalog says now: so a fresh clone, which has no texts yet, puts there what git has brought.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ollamake.cache.key import is_shared
from ollamake.cache.shared import SharedCache
from ollamake.cache.tidy import listed
from ollamake.cache.verified import ChangedError
from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.graph import VERSIONS, Step
from ollamake.said import cleaned
from ollamake.sights import Sights
from ollamake.spelling import counted, sized
from ollamake.stages.cached import Offer, offered
from ollamake.state.digests import digest_if_there
from ollamake.state.receipts import read_receipt

NOT_HERE, NO_RECEIPT = "it is not here", "it has no receipt that says of what it was trained"
OLD = "it was trained by another version of ollamake"
EDITED, CHANGED = "its files are not those of its receipt", "it changed meanwhile"
UNCERTAIN, PREVIOUS = "nobody knows of what it was trained", "not shared: start_from: previous"


def pushed(cache: SharedCache, steps: Iterator[tuple[Sights, Step]], *, dry_run: bool) -> dict[str, Any]:
    """Put there what was trained; what of it was, or would be, put there, was there, and is left. Raises BuildError and StoreError."""
    if not cache.facts.write:
        msg = f"{cache.facts.mark}: nothing is written to this cache: it has `write: false`"
        raise BuildError(msg, fix="remove `write: false` from `cache`")
    paths = {one.path for one in listed(cache.store)}
    put: list[dict[str, Any]] = []
    there: list[str] = []
    left: list[dict[str, str]] = []
    for sights, step in steps:
        offer = _offer(sights, step)
        if isinstance(offer, str):
            left.append({"model": step.name, "why": offer})
            continue
        if offer.key.path in paths:
            there.append(step.name)
            continue
        paths.add(offer.key.path)  # two models may be made of the same
        try:
            size = 0 if dry_run else cache.put(offer.key, offer.folder, offer.digests, offer.facts)
        except (ChangedError, OSError):
            left.append({"model": step.name, "why": CHANGED})
            continue
        if size or dry_run:
            size = size or sum((offer.folder / name).stat().st_size for name in offer.digests)
            put.append({"model": step.name, "path": offer.key.path, "bytes": size})
        else:  # somebody was faster
            there.append(step.name)
    return {"url": cleaned(str(cache.facts.url)), "dry_run": dry_run, "put": put, "there": there, "left": left}


def _offer(sights: Sights, step: Step) -> Offer | str:
    """What may go there, or why it may not."""
    assert isinstance(step.subject, Model)
    if not is_shared(step.subject):
        return PREVIOUS
    if any(digest_if_there(path) is None for path in step.writes):
        return NOT_HERE
    receipt = read_receipt(sights.receipt_path(step))
    if receipt is None:
        return NO_RECEIPT
    here = {Path(path).name: digest_if_there(path) for path in step.writes}
    if {Path(path).name: digest for path, digest in receipt.record.targets.items()} != here:
        return EDITED
    if receipt.record.versions.get("train") != VERSIONS["train"]:
        return OLD
    return offered(step, receipt, sights.pinned(step)) or UNCERTAIN


def as_text(facts: Mapping[str, Any]) -> Iterator[str]:
    """What became of each, for people."""
    does = "would put" if facts["dry_run"] else "put"
    yield from (f"{does} {one['model']}: {one['path']} ({sized(one['bytes'])})" for one in facts["put"])
    yield from (f"left: {one['model']}: {one['why']}" for one in facts["left"])
    size = sum(one["bytes"] for one in facts["put"])
    yield f"{facts['url']}: {does} {counted(len(facts['put']), 'adapter')} there, {sized(size)}; {len(facts['there'])} there already"
