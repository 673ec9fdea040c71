"""Which files a pattern of the catalog comes to. Light: a build without work asks it again."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from ollamake.catalog.expanded import like


def matching(pattern: str) -> list[str]:
    """The file of this name, else those that the pattern matches, by name; paths with slashes."""
    found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    return [like(path.replace("\\", "/"), pattern) for path in found]


class Files:
    """The files that catalogs may name: those on this disk."""

    def matching(self, pattern: str) -> list[str]:
        """The files that this pattern means."""
        return matching(pattern)

    def read(self, path: str) -> bytes:
        """The content of a catalog. Raises OSError."""
        return Path(path).read_bytes()

    def schema(self, path: str) -> bytes | None:
        """The content of a JSON Schema; None where it is not there. Raises OSError."""
        return Path(path).read_bytes() if Path(path).is_file() else None

    def real(self, path: str) -> str:
        """The one path of a file, by whatever links it is named."""
        return os.path.realpath(path)
