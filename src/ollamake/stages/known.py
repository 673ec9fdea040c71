"""Digests of files that this build has written, and so need not be read for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ollamake.state.digests import JUST_NOW, digest_cache, is_young, signature_of

LARGE = 50_000_000  # bytes that take longer to read than it takes until a file is no longer young


def remember(paths: Iterable[str], digest: str) -> None:
    """Have it known that these files, which we have just written or linked, have this digest; small ones are read when they are asked for. Raises OSError."""
    before = {path: signature_of(os.stat(path)) for path in paths}
    large = {path: signature for path, signature in before.items() if signature[0] >= LARGE}
    if any(is_young(signature) for signature in large.values()):
        time.sleep(1.1 * JUST_NOW / 1e9)  # until any later change is one of the file's times, too
    same = {path: [*signature, digest] for path, signature in large.items() if signature_of(os.stat(path)) == signature}
    digest_cache().learn(same)
