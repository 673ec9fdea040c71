"""An adapter that is there already, in whichever form: a PEFT directory, or a GGUF LoRA."""

from __future__ import annotations

from pathlib import Path

from ollamake.lora.adapter import LoraAdapter
from ollamake.lora.architecture import Architecture
from ollamake.lora.gguf_lora import examined_gguf, read_gguf_lora
from ollamake.lora.peft_adapter import examined_peft, read_peft_adapter
from ollamake.lora.verdict import Verdict


def read_adapter(path: Path, architecture: Architecture, base: str | None = None) -> LoraAdapter:
    """The adapter at this path, all of its tensors for tensors of the base, with the warnings on it.

    `base`: what the base is called on Hugging Face. Raises BuildError with everything that is refused.
    """
    return read_gguf_lora(path, architecture) if path.is_file() else read_peft_adapter(path, architecture, base)


def adapter_verdicts(path: Path, architecture: Architecture, base: str | None = None) -> tuple[Verdict, ...]:
    """Everything that is found of the adapter at this path: carried, warned of, refused. Raises nothing."""
    return (examined_gguf(path, architecture) if path.is_file() else examined_peft(path, architecture, base)).verdicts
