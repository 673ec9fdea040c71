"""How an architecture's modules are named and laid out in a GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from gguf import MODEL_ARCH, get_tensor_name_map
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, read_head

# Llama 2 to 3.x, Mistral, SmolLM: what llama.cpp's converter writes as `llama`.
KNOWN = {"llama": MODEL_ARCH.LLAMA}
# The layers that may get a LoRA, as transformers names them.
LAYERS = {"llama": frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})}

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Architecture:
    """What a base's GGUF says of its layout."""

    head: GgufHead

    @cached_property
    def _names(self) -> dict[str, str]:
        names = get_tensor_name_map(KNOWN[self.head.architecture], self.head.count("block_count"))
        return {key: name for key, (_, name) in names.mapping.items()}

    @property
    def layers(self) -> frozenset[str]:
        """The names of the layers that may get a LoRA: `q_proj`, `up_proj`, ..."""
        return LAYERS[self.head.architecture]

    def tensor_name(self, module: str) -> str | None:
        """The GGUF tensor of a transformers module such as `model.layers.0.self_attn.q_proj`, or None where it may get no LoRA."""
        name = self._names.get(module)
        return None if name is None or module.rpartition(".")[2] not in self.layers else f"{name}.weight"

    @cached_property
    def lora_tensors(self) -> frozenset[str]:
        """The GGUF tensors that may get a LoRA."""
        return frozenset(f"{name}.weight" for module, name in self._names.items() if module.rpartition(".")[2] in self.layers)

    def stored(self, module: str) -> str | None:
        """The GGUF tensor of any module's weight, such as `model.norm` or `lm_head`, or None where the architecture has no such module."""
        name = self._names.get(module)
        return None if name is None else f"{name}.weight"

    def in_file_order(self, tensor: str, rows: NDArray[Number]) -> NDArray[Number]:
        """The rows of a matrix as the GGUF has them: q and k of llama are permuted, so that their rotary halves lie side by side.

        Of a LoRA this goes for B, whose rows are the matrix's own; A is left alone. The permutation is that of llama.cpp's
        convert_hf_to_gguf.py (`LlamaModel.permute`).
        """
        heads = self._rotary_heads(tensor)
        return rows if heads is None else _swapped(rows, heads, 2, rows.shape[0] // heads // 2)

    def in_model_order(self, tensor: str, rows: NDArray[Number]) -> NDArray[Number]:
        """The rows of a matrix of the GGUF as transformers has them: `in_file_order` undone."""
        heads = self._rotary_heads(tensor)
        return rows if heads is None else _swapped(rows, heads, rows.shape[0] // heads // 2, 2)

    def permutes(self, tensor: str) -> bool:
        """Do rows of this tensor change places between the GGUF and transformers?"""
        return self._rotary_heads(tensor) is not None

    def _rotary_heads(self, tensor: str) -> int | None:
        """How many heads' rows are permuted in this tensor; None where its rows are as they were."""
        if tensor.endswith(".attn_q.weight"):
            return self.head.count("attention.head_count")
        if tensor.endswith(".attn_k.weight"):
            own = f"{self.head.architecture}.attention.head_count_kv" in self.head.keys
            return self.head.count("attention.head_count_kv" if own else "attention.head_count")
        return None


def _swapped(rows: NDArray[Number], heads: int, first: int, second: int) -> NDArray[Number]:
    parts = rows.reshape(heads, first, second, *rows.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(rows.shape))


def read_architecture(path: Path) -> Architecture:
    """The architecture of the base in this GGUF file. Raises BuildError."""
    return architecture_of(read_head(path), path)


def architecture_of(head: GgufHead, path: Path) -> Architecture:
    """The base's architecture; `path` is for the message. Raises BuildError where it is not one that is known, or no base at all."""
    if head.keys.get("general.type") == "adapter":
        msg = f"{path}: an adapter, not a base: its general.type is 'adapter'"
        raise BuildError(msg, fix="give the base itself; an adapter is what a model's `adapter` names")
    if head.architecture not in KNOWN:
        msg = f"{path}: architecture {head.architecture!r} is not known"
        raise BuildError(msg, fix=f"use a base of: {', '.join(sorted(KNOWN))} (Llama, Mistral, SmolLM)")
    return Architecture(head)
