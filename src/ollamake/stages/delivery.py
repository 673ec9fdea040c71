"""What was trained, and its way into its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ollamake.digest import digest_file
from ollamake.durable import sync_folder
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.say import say
from ollamake.stages.jobs import jobs_left
from ollamake.stages.starts import PRINTS
from ollamake.state.digests import digest_if_there, file_digest
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import Receipt, read_receipt
from ollamake.untrained import digest_behind


def finished(step: Step, adapter: Path, is_current: Callable[[Receipt], bool]) -> Receipt | None:
    """The receipt of what would be trained now and is there: delivered while we waited, or finished in a job of a build that was killed then."""
    for folder in (adapter, *(left / "out" for left in jobs_left(step))):
        receipt = read_receipt(folder / RECEIPT)
        if receipt is None or not is_current(receipt) or any(_digest_in(folder, path) != digest for path, digest in receipt.record.targets.items()):
            continue
        if folder != adapter:
            deliver(folder, adapter, step)
        return receipt
    return None


def _digest_in(folder: Path, path: str) -> str | None:
    try:
        return digest_file(folder / Path(path).name)
    except OSError:
        return None


def data_of(step: Step) -> list[dict[str, Any]]:
    """The datasets behind the text: name, digest and number of records of each, as its conversion has noted them."""
    text = Path(step.reads[0])
    receipt = read_receipt(text.parent / f"convert-{step.name}.{RECEIPT}")
    known = receipt is not None and receipt.record.targets.get(step.reads[0]) == file_digest(text)
    return list(receipt.outcome.get("data", [])) if receipt and known else []


def place_for(adapter: Path) -> Path:
    """The adapter's folder, where it may be a link to another, once it is sure that it can be put there: before hours are spent on it."""
    place = Path(os.path.realpath(adapter))
    if place.exists() and not place.is_dir():
        msg = f"{adapter} is in the way: it is not a folder"
        raise BuildError(msg, fix="move it away, then run `doit` again")
    there = next(folder for folder in place.parents if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        msg = f"{adapter} can't be written: {there} is no folder that you may write to"
        raise BuildError(msg, fix="give yourself the right to, then run `doit` again")
    return place


def is_strange(adapter: Path, step: Step) -> bool:
    """Is there something in the adapter's folder of which no receipt says that it was made here? Somebody may have put it there, and have it nowhere else."""
    receipt = read_receipt(adapter / RECEIPT)
    made = {} if receipt is None else receipt.record.targets
    try:
        there = {path: digest for path in step.writes if (digest := digest_if_there(path)) is not None}
        return any(made.get(path, "") not in {digest, digest_behind(path)} for path, digest in there.items())
    except OSError:  # no file, or none that may be read
        return True


def deliver(out: Path, adapter: Path, step: Step) -> None:
    """Put the files that were made into their folder, whole; what was there before is replaced, and put aside where it was not made here."""
    adapter.parent.mkdir(parents=True, exist_ok=True)
    partial, before = (adapter.with_name(f".{adapter.name}.{kind}") for kind in ("partial", "before"))
    keeps = is_strange(adapter, step)
    for left in (partial, before):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    more = [PRINTS] if (out / PRINTS).exists() else []
    for name in (*(Path(path).name for path in step.writes), RECEIPT, *more):
        shutil.copyfile(out / name, partial / name)
        with (partial / name).open("rb") as file:
            os.fsync(file.fileno())  # hours went into it
    sync_folder(partial)
    if adapter.exists():
        os.rename(adapter, before)
    os.rename(partial, adapter)
    sync_folder(adapter.parent)
    if keeps:
        say(f"   {step.name}: what was in its place, and was not made here, is in {below_here(before)} until it is trained again")
    else:
        shutil.rmtree(before, ignore_errors=True)


def below_here(path: Path) -> Path:
    """The path as a message shows it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
