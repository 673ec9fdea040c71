"""What the locks of a clone refer to in a cache: at the tips of all of its branches and tags, and in its working tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ollamake.cache.key import Key, keys_of_training
from ollamake.errors import BuildError
from ollamake.freshness import Record
from ollamake.git import clone_here
from ollamake.state.lock_file import Block, read_lock


def keys_in(blocks: Mapping[str, Block]) -> set[Key]:
    """The keys that the trainings in a lock may be found by."""
    found: set[Key] = set()
    for step, block in blocks.items():
        if step.startswith("train:"):
            found |= keys_of_training(Record.of(block))
    return found


def referred_to(locks: Iterable[str]) -> set[Key]:
    """The keys that locks of these names, as seen from the working directory, refer to. Raises BuildError where that can't be told."""
    clone = clone_here()
    if clone.is_shallow:
        msg = "this clone is shallow: it does not know what other branches refer to"
        raise BuildError(msg, fix="`git fetch --unshallow`; in GitHub Actions, actions/checkout with `fetch-depth: 0`")
    found: set[Key] = set()
    for name in locks:
        texts = [(content, f"{name} in git") for content in clone.at_tips(clone.path(name))]
        if Path(name).is_file():
            texts.append((Path(name).read_bytes(), name))
        for content, at in texts:
            found |= keys_in(read_lock(content.decode(errors="replace"), at))  # digests are ASCII
    return found
