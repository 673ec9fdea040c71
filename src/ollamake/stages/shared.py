"""The shard that all models of a base with the same changed tensors share: on the disk once, with a link in the folder of each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ollamake.digest import digest_value
from ollamake.graph import BUILD
from ollamake.locks import try_lock, wait_for_lock
from ollamake.lora.split import SHARDS, VERSION
from ollamake.stages.known import in_place, remember
from ollamake.state.digests import digest_if_there
from ollamake.state.files import read_object, write_whole

SHARED = f"{BUILD}/.shared"  # no model's folder: none is called so


def share_shard(base: str, names: frozenset[str], write: Callable[[Path], str], target: Path) -> str:
    """Have the shard in `target`, and return its digest. Where there is none yet, `write` writes it; two builds at once write it once. Raises OSError.

    `base`: its digest; `names`: of the tensors that are not in the shard.
    """
    key = digest_value({"base": base, "changed": sorted(names), "version": VERSION}).removeprefix("sha256:")[:32]
    with _alone():
        kept, facts = Path(SHARED, f"{key}.gguf"), Path(SHARED, f"{key}.json")
        digest = read_object(facts).get("digest")
        if not isinstance(digest, str) or digest_if_there(kept) != digest:  # not there, or damaged since
            digest = in_place(write, kept)
            write_whole(facts, f'{{"digest": "{digest}"}}\n')
        _link(kept, target)
        # A link is a change of the file's times, which the digests of all of its names are known by.
        remember((path.as_posix() for path in (kept, *_links(kept))), digest)
        _sweep(but=key)
    return digest


def sweep_shards() -> None:
    """Remove the shards that no model has any more."""
    if Path(SHARED).is_dir():
        with _alone():
            _sweep()


def _sweep(but: str = "") -> None:
    for kept in Path(SHARED).glob("*.gguf"):
        if kept.stem != but and kept.stat().st_nlink == 1:
            kept.unlink()
            kept.with_suffix(".json").unlink(missing_ok=True)


def _link(kept: Path, target: Path) -> None:
    """Whole or not at all; a copy where the disk has no links."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(kept, partial)
        except OSError:
            shutil.copyfile(kept, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _links(kept: Path) -> Iterator[Path]:
    """The names of this file in models' folders. Their steps remove them when they like, also while we look."""
    for path in Path(BUILD).glob(f"*/{SHARDS[0]}"):
        is_link = False
        with suppress(FileNotFoundError):
            is_link = path.samefile(kept)
        if is_link:
            yield path


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else makes or removes a shard meanwhile: several models may be packaged at once."""
    Path(SHARED).mkdir(parents=True, exist_ok=True)
    with Path(SHARED, "lock").open("w", encoding="utf-8") as file:
        if not try_lock(file):
            wait_for_lock(file)
        yield
