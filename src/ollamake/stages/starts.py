"""What a training begins with: the base, another model's adapter, or its own of the training before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ollamake.catalog import Model
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.lora.architecture import Architecture
from ollamake.lora.peft_adapter import CONFIG, WEIGHTS, read_peft_adapter
from ollamake.lora.peft_config import read_config
from ollamake.say import say
from ollamake.spelling import counted
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import Receipt, read_receipt

PRINTS = "records.xxh3"  # beside an adapter: a fingerprint of each record of its text, 8 bytes each, sorted
FORCE = "`start_from: {previous: always}` begins with it all the same"

Prints = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a training begins with."""

    folder: Path | None = None  # PEFT directory; None: the base alone
    name: str = "base"  # or previous, or the model whose adapter it is
    chain: int = 1  # trainings upon one another, this one counted

    def facts(self) -> dict[str, Any]:
        """For the receipt."""
        adapter = {} if self.folder is None else {"adapter": digest_file(self.folder / WEIGHTS)}
        return {"from": self.name, "chain": self.chain, **adapter}


def beginning(step: Step, model: Model, adapter: Path, base_digest: str, architecture: Architecture) -> Beginning:
    """What this training begins with, which is said; `adapter` is where the model's own is. Raises BuildError where another's does not fit the base."""
    start = model.train.start
    if start is None:
        return Beginning()
    if start.model is not None:
        folder = next(Path(path).parent for path in step.reads if Path(path).name == CONFIG)
        _check(folder, model, architecture)
        before = read_receipt(folder / RECEIPT)
        return Beginning(folder=folder, name=start.model, chain=1 + (_chain(before) if before else 1))
    receipt = read_receipt(adapter / RECEIPT)
    if receipt is None:
        return Beginning()  # the first of its chain
    refusal = _refusal(step, model, receipt, adapter, base_digest)
    if refusal is not None:
        say(f"   {model.name}: begins with the base: {refusal}")
        return Beginning()
    chain = _chain(receipt) + 1
    say(f"   {model.name}: begins with its own adapter of before: training {chain} of at most {start.limit} upon one another")
    return Beginning(folder=adapter, name="previous", chain=chain)


def _check(folder: Path, model: Model, architecture: Architecture) -> None:
    """Raise BuildError where this adapter does not fit the base, or is of another form than what is trained."""
    read_peft_adapter(folder, architecture)
    config = read_config(folder / CONFIG)
    if config["r"] != model.train.rank:
        msg = f"{model.mark}: model {model.name!r}: start_from: that adapter has rank {config['r']}, and this recipe {model.train.rank}"
        raise BuildError(msg, fix=f"write `rank: {config['r']}` into the model's `train:`, or start from the base")
    for key in ("rank_pattern", "alpha_pattern"):
        if config.get(key):
            msg = f"{model.mark}: model {model.name!r}: start_from: that adapter has {key}, and a recipe one rank and one alpha for all layers"
            raise BuildError(msg, fix="start from the base, or from an adapter that was trained here")


def _refusal(step: Step, model: Model, receipt: Receipt, adapter: Path, base_digest: str) -> str | None:
    """Why it can't begin with the adapter that it has; None where it can."""
    start = model.train.start
    assert start is not None
    if _chain(receipt) >= start.limit:
        return f"{counted(start.limit, 'training')} upon one another are enough (start_from: limit)"
    if any(
        not (adapter / Path(path).name).is_file() or digest_file(adapter / Path(path).name) != digest
        for path, digest in receipt.record.targets.items()
    ):
        return "its adapter is not as it was trained"
    # A base may have another name by now.
    if base_digest not in {digest for name, digest in receipt.record.inputs.items() if name.startswith("base ")}:
        return "its adapter was trained on another base"
    others = {
        key for key in {*step.keys, *receipt.keys} if key not in {"train.start_from", "train version"} and step.keys.get(key) != receipt.keys.get(key)
    }
    if others:
        return f"the recipe is another one: {', '.join(sorted(others))}"
    if start.always:
        return None
    try:
        before = np.fromfile(adapter / PRINTS, dtype="<u8")
    except OSError:
        return f"its records of before are not known; {FORCE}"
    now = prints_of(Path(step.reads[0]))
    gone = lost(before, now)
    if gone:
        return f"{counted(gone, 'record')} of before {'was' if gone == 1 else 'were'} changed or removed; {FORCE}"
    return None if len(now) > len(before) else f"no record was added; {FORCE}"  # the same ones twice would be learnt by heart


def prints_of(text: Path) -> Prints:
    """The fingerprints of a text's lines, sorted."""
    with text.open("rb") as lines:
        return np.sort(np.fromiter((xxh3_64_intdigest(line) for line in lines), dtype="<u8"))


def lost(before: Prints, now: Prints) -> int:
    """How many of the records of before are no longer there; one that stood twice has to stand twice."""
    values, counts = np.unique(before, return_counts=True)
    there, counts_there = np.unique(now, return_counts=True)
    places = np.searchsorted(there, values)
    found = np.zeros_like(counts)
    is_in = places < len(there)
    is_in[is_in] = there[places[is_in]] == values[is_in]
    found[is_in] = counts_there[places[is_in]]
    return int(np.maximum(counts - found, 0).sum())


def _chain(receipt: Receipt) -> int:
    start = receipt.outcome.get("start", {})
    chain = start.get("chain") if isinstance(start, dict) else None
    return chain if isinstance(chain, int) else 1
