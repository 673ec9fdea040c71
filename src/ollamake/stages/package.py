"""Adapter, or whole weights, and base -> served weights: a GGUF LoRA for servers that take one, a merged GGUF for any."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step, adapter_folder, weights_files
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import WEIGHTS, refuse_pickle_beside
from ollamake.lora.read import read_adapter
from ollamake.lora.whole_weights import WholeWeights, write_whole_gguf
from ollamake.stages.served import Served, write_served
from ollamake.state.digests import file_digest

KINDS = ("adapter", "merged")


def package(step: Step, model: Model, kind: str) -> dict[str, Any]:
    """Write the served weights, of one of KINDS, and `served.json` that names them. Raises BuildError."""
    (served,) = step.writes
    folder = Path(served).parent
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(model.base.gguf)
    architecture = read_architecture(base)
    write = _writer(step, model, kind, architecture)
    target = folder / f"{kind}.gguf"
    partial = folder / f".{kind}.gguf.partial"
    Path(served).unlink(missing_ok=True)
    for other in KINDS:  # one kind at a time: they are large
        for left in (f"{other}.gguf", f".{other}.gguf.partial"):
            (folder / left).unlink(missing_ok=True)
    try:
        write(partial)
        os.replace(partial, target)
    except OSError as error:
        msg = f"{target} can't be written: {error.strerror}"
        raise BuildError(msg, fix="make room on the disk, then run `doit` again") from error
    finally:
        partial.unlink(missing_ok=True)
    trained = Path(step.reads[0]).parent.as_posix() if _is_whole(step, model) else None
    write_served(Path(served), Served(kind=kind, base=file_digest(base), files=((target, digest_file(target)),), trained=trained))
    return {"kind": kind, "bytes": target.stat().st_size}


def _writer(step: Step, model: Model, kind: str, architecture: Architecture) -> Callable[[Path], str]:
    """What writes the served weights, of what was trained, and returns their digest: checked, before anything that is there is removed. Raises BuildError."""
    base, weights_type = Path(model.base.gguf), model.serve.weights_type
    if _is_whole(step, model):
        weights = WholeWeights(Path(step.reads[0]), architecture.head)
        return lambda target: write_whole_gguf(base, architecture.head, weights, weights_type, target)
    adapter = read_adapter(Path(adapter_folder(model)), architecture)
    if kind == "adapter":
        return lambda target: write_gguf_lora(adapter, architecture, target) or digest_file(target)  # small: read once more
    return lambda target: write_merged_gguf(base, architecture.head, adapter, weights_type, target)


def _is_whole(step: Step, model: Model) -> bool:
    return step.reads[:1] == weights_files(model)


def refuse_pickle(missing: Iterable[str]) -> None:
    """Raise BuildError where one of these files is not there because an adapter's weights are in a pickle beside it: says how it is converted."""
    for path in map(Path, missing):
        if path.name == WEIGHTS:
            refuse_pickle_beside(path)


def check_adapter(model: Model) -> None:
    """Check an adapter that is there against its base, as its packaging will. Raises BuildError."""
    assert model.adapter is not None  # there is one
    if not Path(model.base.gguf).is_file():
        raise model.base.missing()
    read_adapter(Path(model.adapter), read_architecture(Path(model.base.gguf)))
