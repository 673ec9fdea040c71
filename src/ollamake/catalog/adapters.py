"""An adapter that is there already, as far as the catalog alone can say what it is: the path tells, as the file need not be there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ollamake.catalog.expanded import written

# As files are called that llama.cpp's tools write, and as Ollama keeps them (`ollama show --modelfile`: ADAPTER .../blobs/sha256-...).
_GGUF = re.compile(r".*\.gguf|(?:.*/)?sha256-[0-9a-f]{64}", re.IGNORECASE | re.DOTALL)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_lora_file(path: str) -> bool:
    """Is this the path of a GGUF LoRA, and not of a folder?"""
    return _GGUF.fullmatch(path) is not None


def wrong_with_adapter(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Key of the model's entry, or an empty one for all of it; what is wrong, what to do."""
    if "adapter" not in model:
        if "data" not in model:
            yield "", "neither data nor adapter", "add `data: [DATASET]`, or `adapter: FOLDER`"
        return
    for key in ("data", "train"):
        if key in model:
            yield key, f"{key} beside adapter: an adapter that is there is not trained", f"remove adapter or {key}"
    wrong = wrong_with_path(written(model["adapter"]))
    if wrong is not None:
        yield "adapter", *wrong


def wrong_with_path(path: str) -> tuple[str, str] | None:
    """What is wrong with this path of an adapter, and what to name instead; None where nothing is."""
    folder = path.replace("\\", "/").rpartition("/")[0] or "."
    if path.lower().endswith(".safetensors"):
        return f"{path!r} is a file of an adapter, and the folder is wanted that its adapter_config.json is in", f"name the folder: {folder}"
    if path.lower().endswith(_PICKLES):
        text = f"{path!r} is a pickle, which may run any program when it is loaded: it is never loaded"
        return text, f"name the folder that it is in, {folder}: a build then says how to convert it"
    return None
