"""The base as transformers loads it: from the folder that the build makes of the GGUF that is served, or by a Hugging Face id.

Imports torch and transformers: only for the training's own process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load_base(base: Mapping[str, Any], *, dtype: torch.dtype) -> tuple[Any, Any]:
    """The base model and its tokenizer, from a job's `base`: its `path` is a folder or an id."""
    source = str(base["path"])
    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype), AutoTokenizer.from_pretrained(source)
