"""A checked adapter merged into its base's GGUF, for any server.

Keys and untouched tensors are copied byte for byte. A changed tensor is dequantized, added to and written in a type fine enough for what
was learned: a LoRA delta is smaller than a 4-bit step, so Q4 may lose it.
"""

from __future__ import annotations

from pathlib import Path

from ollamake.errors import BuildError
from ollamake.lora.adapter import LoraAdapter
from ollamake.lora.changes import Changes, Form, LoraSum, changed_types, write_changed
from ollamake.lora.gguf_file import GgufHead, mapped
from ollamake.lora.rewrite import layout_of
from ollamake.lora.tensor_file import TensorFile


def write_merged_gguf(base: Path, head: GgufHead, adapter: LoraAdapter, weights_type: str, target: Path) -> str:
    """Write base plus adapter as `target`, and return its digest; `weights_type` is one of changes.WEIGHTS_TYPES, or `keep`. Raises BuildError."""
    return write_merged(base, head, LoraSum(adapter), Form(weights_type=weights_type), target)


def write_merged(base: Path, head: GgufHead, changes: Changes, form: Form, target: Path) -> str:
    """Write the base with these changes as `target`, and return its digest. Raises BuildError."""
    layout = layout_of(head, keys_of(base, head), changed_types(head, changes, form))
    with TensorFile(base, head) as file:
        return write_changed(layout, file, changes, form, target)


def keys_of(base: Path, head: GgufHead) -> bytes:
    """The base's keys, as they are in its file. Raises BuildError where they are those of one file of several."""
    count = head.keys.get("split.count", 1)
    if count != 1:
        msg = f"{base}: one of {count} files of a model, which has a part of its tensors"
        raise BuildError(msg, fix="join them: llama-gguf-split --merge FIRST_FILE WHOLE_FILE")
    return bytes(mapped(base)[head.keys_start : head.keys_end])
