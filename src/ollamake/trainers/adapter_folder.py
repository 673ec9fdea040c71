"""The PEFT directory that a training has left."""

from __future__ import annotations

from pathlib import Path

from ollamake.errors import BuildError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter_folder(folder: Path) -> Path:
    """The folder, once it is sure that an adapter is in it. Raises BuildError."""
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        msg = f"the training has left no adapter: {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not in its `{folder.name}`"
        raise BuildError(msg, fix="read the training's log; then run `doit` again")
    return folder
