"""The base in the form that a trainer reads: its GGUF as it is, in float32, or as a folder for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ollamake.catalog import Base
from ollamake.state.digests import file_digest
from ollamake.trainers.port import FLOAT_GGUF, HF


def base_as_read(base: Base, form: str, cache: Path) -> dict[str, Any]:
    """What a job says of its base: `gguf`, `digest`, `path` of the form that is asked for, and `hf` where the catalog gives one.

    What is made from the GGUF is made once, and kept in `cache`. Raises BuildError.
    """
    gguf, digest = Path(base.gguf).absolute(), file_digest(base.gguf)
    told = {"gguf": str(gguf), "digest": digest}
    if base.source is not None:
        told["hf"] = base.source if base.hf_folder is None or base.source != base.hf_folder else str(Path(base.source).absolute())
    if form == HF:
        if "hf" in told:
            return {**told, "path": told["hf"]}
        from ollamake.bases.hf_folder import hf_folder

        return {**told, "path": str(hf_folder(gguf, digest, cache))}
    if form == FLOAT_GGUF:
        from ollamake.bases.float_gguf import float_gguf

        return {**told, "path": str(float_gguf(gguf, digest, cache))}
    return {**told, "path": str(gguf)}
