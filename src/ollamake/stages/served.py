"""`served.json`: the target of package, which names the served weights by their digests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ollamake.state.files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Served weights that are there."""

    kind: str  # adapter, merged, split
    base: str  # digest of the base's GGUF
    files: tuple[tuple[Path, str], ...]  # each with its digest, in their order
    trained: str | None = None  # of weights that were trained whole: their folder


def read_served(path: Path) -> Served | None:
    """What a `served.json` says; None where it, or a file that it names, is not there."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        files = tuple((path.parent / name, digest) for name, digest in facts["files"].items())
        served = Served(kind=facts["kind"], base=facts["base"], files=files, trained=facts.get("trained"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    texts = (served.kind, served.base, *(digest for _, digest in files))
    return served if files and all(isinstance(text, str) for text in texts) and all(file.is_file() for file, _ in files) else None


def write_served(path: Path, served: Served) -> None:
    """Write it, whole or not at all. Raises OSError."""
    facts = {"base": served.base, "files": {file.name: digest for file, digest in served.files}, "kind": served.kind}
    more = {} if served.trained is None else {"trained": served.trained}
    write_whole(path, json.dumps({**facts, **more}, indent=2) + "\n")
