"""`served.json`: the target of package, which names the served weights by their digest."""

from __future__ import annotations

import json
from pathlib import Path


def read_served(path: Path) -> dict[str, str] | None:
    """What a `served.json` says: `kind` ("adapter" or "merged"), `file` beside it, `digest` of that, `base`, the digest of the base's GGUF.

    `trained`, of weights that were trained whole: their folder.

    None where it, or the weights that it names, are not there.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), str) for key in ("kind", "file", "digest", "base")):
        return None
    return facts if (path.parent / facts["file"]).is_file() else None
