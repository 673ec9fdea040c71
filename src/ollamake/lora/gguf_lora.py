"""A checked adapter as a GGUF LoRA, for servers that take one (Ollama before 0.34.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from ollamake.lora.architecture import Architecture
from ollamake.lora.peft_adapter import PeftAdapter


def write_gguf_lora(adapter: PeftAdapter, architecture: Architecture, target: Path) -> None:
    """Write the adapter as `target`, in float32.

    The file has one alpha, and a reader scales each pair by alpha / rank: a pair that is scaled otherwise (rsLoRA) has the difference in its B.
    """
    writer = GGUFWriter(target, architecture.head.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    for pair in adapter.pairs:
        correction = np.float32(pair.scale * pair.rank / adapter.alpha)
        writer.add_tensor(f"{pair.tensor}.lora_a", pair.a)
        writer.add_tensor(f"{pair.tensor}.lora_b", pair.b * correction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
