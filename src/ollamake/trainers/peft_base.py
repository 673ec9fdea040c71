"""The base as transformers loads it: from a Hugging Face folder, which the build makes of the GGUF that is served, or by an id.

Imports torch and transformers: only for the training's own process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load_base(base: Mapping[str, Any], *, cache: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The base model and its tokenizer, from a job's `base`: `path` is a folder or an id; without it, `gguf` is dequantized into the cache."""
    source = str(base["path"] if "path" in base else base["hf"] if "hf" in base else _dequantized(Path(base["gguf"]), base["digest"], cache))
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    return model, tokenizer


def _dequantized(gguf: Path, digest: str, cache: Path) -> Path:
    """The folder with the GGUF's weights as float32 safetensors, made where it is missing; it appears whole or not at all."""
    kept = cache / "bases" / digest.replace(":", "-")
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers refuses to save a model that it has dequantized until it forgets where it came from.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    partial = Path(tempfile.mkdtemp(dir=kept.parent, prefix=f".{kept.name}."))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        os.rename(partial, kept)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not kept.is_dir():  # else another training was quicker, with the same content
            raise
    return kept
