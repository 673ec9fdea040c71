"""An adapter that is there already, in whichever form: a PEFT directory, or a GGUF LoRA."""

from __future__ import annotations

from pathlib import Path

from ollamake.lora.adapter import LoraAdapter
from ollamake.lora.architecture import Architecture
from ollamake.lora.gguf_lora import read_gguf_lora
from ollamake.lora.peft_adapter import read_peft_adapter


def read_adapter(path: Path, architecture: Architecture) -> LoraAdapter:
    """The adapter at this path, all of its tensors for tensors of the base. Raises BuildError with every fault."""
    return read_gguf_lora(path, architecture) if path.is_file() else read_peft_adapter(path, architecture)
