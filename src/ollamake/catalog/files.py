"""Which files a pattern of the catalog comes to. Light: a build without work asks it again."""

from __future__ import annotations

import glob
import os

from ollamake.catalog.expanded import like


def matching(pattern: str) -> list[str]:
    """The file of this name, else those that the pattern matches, by name; paths with slashes."""
    found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
    return [like(path.replace("\\", "/"), pattern) for path in found]
