"""Files that this build writes, whole or not at all; their digests are known, and they need not be read for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ollamake.state.digests import JUST_NOW, Signature, digest_cache, is_young, signature_of

LARGE = 50_000_000  # bytes that take longer to read than it takes until a file is no longer young


def in_place(write: Callable[[Path], str], target: Path) -> str:
    """Write a file by what writes it and returns its digest; the file is there whole or not at all. Returns the digest. Raises what `write` does."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        digest = write(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return digest


def remember(paths: Iterable[str], digest: str) -> None:
    """Have it known that these files, which we have just written or linked, have this digest; small ones are read when they are asked for. Raises OSError.

    Those that another model's step removes meanwhile are left out.
    """
    large = {path: signature for path in paths if (signature := _signature(path)) is not None and signature[0] >= LARGE}
    if any(is_young(signature) for signature in large.values()):
        time.sleep(1.1 * JUST_NOW / 1e9)  # until any later change is one of the file's times, too
    same = {path: [*signature, digest] for path, signature in large.items() if _signature(path) == signature}
    digest_cache().learn(same)


def _signature(path: str) -> Signature | None:
    try:
        return signature_of(os.stat(path))
    except FileNotFoundError:
        return None
