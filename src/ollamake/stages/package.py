"""Adapter and base -> served weights: a GGUF LoRA for servers that take one, a merged GGUF for any."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step, adapter_folder
from ollamake.lora.architecture import read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import WEIGHTS, refuse_pickle_beside
from ollamake.lora.read import read_adapter
from ollamake.state.digests import file_digest
from ollamake.state.files import write_whole

KINDS = ("adapter", "merged")


def package(step: Step, model: Model, kind: str) -> dict[str, Any]:
    """Write the served weights, of one of KINDS, and `served.json` that names them: `{"kind", "file", "digest", "base"}`. Raises BuildError."""
    (served,) = step.writes
    folder = Path(served).parent
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(model.base.gguf)
    architecture = read_architecture(base)
    adapter = read_adapter(Path(adapter_folder(model)), architecture)
    target = folder / f"{kind}.gguf"
    partial = folder / f".{kind}.gguf.partial"
    Path(served).unlink(missing_ok=True)
    for other in KINDS:  # one kind at a time: they are large
        for left in (f"{other}.gguf", f".{other}.gguf.partial"):
            (folder / left).unlink(missing_ok=True)
    try:
        if kind == "adapter":
            write_gguf_lora(adapter, architecture, partial)
        else:
            write_merged_gguf(base, architecture.head, adapter, model.serve.weights_type, partial)
        os.replace(partial, target)
    except OSError as error:
        msg = f"{target} can't be written: {error.strerror}"
        raise BuildError(msg, fix="make room on the disk, then run `doit` again") from error
    finally:
        partial.unlink(missing_ok=True)
    facts = {"base": file_digest(base), "digest": digest_file(target), "file": target.name, "kind": kind}
    write_whole(Path(served), json.dumps(facts, indent=2, sort_keys=True) + "\n")
    return {"kind": kind, "bytes": target.stat().st_size}


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
