"""Merged weights, or in their place those that the cache has: of the same adapter, base and keys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ollamake.cache.key import PACKED, key_of
from ollamake.cache.objects import MERGED, Manifest
from ollamake.cache.shared import SharedCache
from ollamake.cache.verified import DamagedError
from ollamake.digest import digest_value
from ollamake.freshness import Record
from ollamake.graph import Step
from ollamake.say import say
from ollamake.state.digests import file_digest

TAKEN = "taken-"


class Packed:
    """The merged weights of one model, as the cache may have them."""

    def __init__(self, cache: SharedCache | None, step: Step, keys: Mapping[str, Any]) -> None:
        """`keys`: what decides the step beside its files. Where there is no cache, or none for these weights, there is nothing in it."""
        self.cache = cache if cache is not None and cache.facts.packed else None
        self.key = None
        self.name = step.name
        self.is_taken = False
        if self.cache is not None:
            imatrix = step.keys.get("serve.imatrix")
            inputs = {"imatrix" if name == imatrix else name: file_digest(path) for name, path in step.named_reads.items()}
            self.key = key_of(PACKED, Record(inputs=inputs, keys=digest_value({**keys, "serve.imatrix": None}), targets={}, versions={}))

    def or_else(self, write: Callable[[Path], str]) -> Callable[[Path], str]:
        """What has the weights in a file and returns their digest: those of the cache, else those that `write` writes."""

        def written(target: Path) -> str:
            return self._taken(target) or write(target)

        return written

    def keep(self, file: Path, digest: str) -> None:
        """Put into the cache what was written here."""
        if self.cache is not None and self.key is not None and not self.is_taken:
            self.cache.keep(self.key, file.parent, {file.name: digest}, {})

    def _taken(self, target: Path) -> str | None:
        if self.cache is None or self.key is None or not self.cache.reads:
            return None
        for left in target.parent.glob(f"{TAKEN}*"):  # by a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=TAKEN))
        try:
            manifest = self.cache.take(self.key, folder, _check, what=self.name)
            if manifest is None:
                return None
            os.replace(folder / MERGED, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.is_taken = True
        say(f"   {self.name}: merged weights from the cache")
        return manifest.files[0].digest


def _check(manifest: Manifest) -> None:
    """Raise DamagedError where an object is none of merged weights."""
    if [entry.name for entry in manifest.files] != [MERGED]:
        msg = "it has no merged weights"
        raise DamagedError(msg)
