"""The names of a repo: kept in the user's cache, and read again where a file of its catalogs has changed. A catalog with faults keeps those of before."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from ollamake.completion.commands import keep
from ollamake.folders import cache_folder

DODO = "dodo.py"
NOTHING: dict[str, Any] = {"models": {}, "trained": [], "datasets": {}, "bases": {}, "tags": {}, "tasks": []}


def known_names(dodo: str = DODO) -> dict[str, Any]:
    """The names of the repo whose dodo.py this is; empty where it is none. What a dodo.py says is read, never run."""
    path = Path(dodo)
    if not path.is_file():
        return NOTHING
    kept_at = cache_folder() / "completion" / f"{sha256(str(path.absolute()).encode()).hexdigest()[:32]}.json"
    kept: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        kept = json.loads(kept_at.read_text(encoding="utf-8"))
    if kept and all(_sign(file) == sign for file, sign in kept["files"].items()) and all(_matching(one) == found for one, found in kept["patterns"]):
        names: dict[str, Any] = kept["names"]
        return names
    text = path.read_text(encoding="utf-8", errors="replace")
    own = {"tasks": re.findall(r"^def task_(\w+)\(", text, flags=re.MULTILINE)}
    files = {str(path): _sign(str(path))}
    patterns: dict[str, list[str]] = {}
    names = {**NOTHING, "models": {}, "trained": [], "datasets": {}, "bases": {}, "tags": {}}
    try:
        for catalog in re.findall(r"^[^#\n]*\btasks_from\(\s*[rf]?[\"']([^\"'\n]+)", text, flags=re.MULTILINE) or ["models.yaml"]:
            read = _read(path.parent / catalog, names)
            files |= {file: _sign(file) for file in read.digests}
            patterns |= read.patterns
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `doit` says it
        return {**(kept.get("names") or NOTHING), **own}
    names |= own
    keep(kept_at, {"files": files, "patterns": [[pattern, _matching(pattern)] for pattern in patterns if _is_of_catalogs(pattern)], "names": names})
    return names


def _read(path: Path, names: dict[str, Any]) -> Any:
    """Take the names of this catalog."""
    from ollamake.catalog.load import load_catalog
    from ollamake.state.readings import kept_reading
    from ollamake.trainers.installed import TrainerNames

    here = os.path.relpath(path).replace(os.sep, "/")
    with kept_reading(here, may_write=False) as kept:
        catalog = load_catalog(Path(here), trainers=TrainerNames(), only_looks=True, kept=kept)
    for model in catalog.models:
        names["models"][model.name] = f"model on {model.base.name}"
        names["trained"] += [model.name] if model.adapter is None else []
        names["bases"].setdefault(model.base.name, "base")
        for tag in model.tags:
            names["tags"].setdefault(tag, "tag")
    for dataset in catalog.datasets:
        names["datasets"].setdefault(dataset.name, "dataset")
    return catalog


def _sign(file: str) -> list[int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _is_of_catalogs(pattern: str) -> bool:
    return pattern.endswith((".yaml", ".yml", "*"))


def _matching(pattern: str) -> list[str]:
    from ollamake.catalog.files import matching

    return matching(pattern)
