"""The embedded trainer's checkpoints: folders `checkpoint-STEP` that appear whole, of safetensors and JSON. Imports no torch: a build looks for them, too."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.durable import sync_folder

FORMAT = 1
STATE, TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = ".checkpoint.partial"


def whole_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint in this folder that is whole; None where there is none."""
    found = ((int(match[1]), path) for path in work.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name)))
    return next((path for _, path in sorted(found, reverse=True) if read_state(path) is not None), None)


def read_state(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint says beside its tensors; None where it is none of this form, or has lost something."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        whole = state["format"] == FORMAT and state["bytes"] == (checkpoint / TENSORS).stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(state) if whole else None


def write_checkpoint(work: Path, step: int, state: Mapping[str, Any], tensors: bytes) -> None:
    """Add the checkpoint of this step, on the disk when this returns; those before it go."""
    partial = work / _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write(partial / TENSORS, tensors)
    _write(partial / STATE, (json.dumps({**state, "format": FORMAT, "bytes": len(tensors)}, sort_keys=True) + "\n").encode())
    sync_folder(partial)
    target = work / f"checkpoint-{step}"
    shutil.rmtree(target, ignore_errors=True)
    os.rename(partial, target)
    sync_folder(work)
    for other in work.glob("checkpoint-*"):
        if other != target and _NAME.fullmatch(other.name):
            shutil.rmtree(other, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
