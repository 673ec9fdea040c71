"""Checkpoints as transformers' Trainer writes them: `checkpoint-N`, not all at once, so that a kill may leave a part of one."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

STATE = "trainer_state.json"  # written last
_NAME = re.compile(r"checkpoint-(\d+)")


def whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint in this folder that is whole; None where there is none."""
    found = sorted(((int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))), reverse=True)
    return next((path for step, path in found if _is_whole(path, step)), None)


def step_of(checkpoint: Path) -> int:
    """The optimizer step behind which a checkpoint was written."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def stands_alone(checkpoint: Path) -> bool:
    """Can it be gone on from in another place? One that names the best one so far leads to that by its path, and the best adapter is not in it."""
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of another kind
        return True
    return not (isinstance(state, dict) and state.get("best_model_checkpoint"))


def _is_whole(path: Path, step: int) -> bool:
    """Are its files those of one moment, and none cut off? Nothing is unpickled: a file of torch's is a zip archive, whose directory stands at its end."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or state.get("global_step") != step:
            return False
        archives = [*path.glob("*.pt"), *path.glob("*.pth")]
        return all(map(zipfile.is_zipfile, archives)) and all(map(_is_whole_safetensors, path.glob("*.safetensors")))
    except (OSError, ValueError):
        return False


def _is_whole_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if not 0 < length <= size - 8:
            return False
        head = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)
