"""How an architecture's modules are named and laid out in a GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from gguf import MODEL_ARCH, get_tensor_name_map
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import GgufHead, mapped, parse_head, read_head
from ollamake.lora.rewrite import tensor_data

_SPLIT = (*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down")))
_FUSED = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
# As llama.cpp's converter calls them -> gguf's own map of their names, what they are, and the modules of a block that may get a LoRA, as transformers
# names them.
KNOWN = {
    "llama": (MODEL_ARCH.LLAMA, "Llama, Mistral, SmolLM", _SPLIT),
    "qwen2": (MODEL_ARCH.QWEN2, "Qwen 2 and 2.5", _SPLIT),
    "qwen3": (MODEL_ARCH.QWEN3, "Qwen 3", _SPLIT),
    "gemma2": (MODEL_ARCH.GEMMA2, "Gemma 2", _SPLIT),
    "gemma3": (MODEL_ARCH.GEMMA3, "Gemma 3", _SPLIT),
    "phi3": (MODEL_ARCH.PHI3, "Phi 3 and 4", _FUSED),
}
PERMUTED = ("llama",)  # whose q and k have their rows in another order in the GGUF
# Which Ollama has always run by an engine of its own, that takes no LoRA ("loras are not yet implemented", ollamarunner/runner.go). So it runs qwen3
# since some version of autumn 2025: that is for the server to say.
WITHOUT_LORA = ("gemma3",)
OUTPUT = "output.weight"  # not there where the embedding is the output layer too
# How transformers names the language model where a model also sees (Gemma 3): by its versions. In the GGUF it is a model of its own.
_INSIDE = ("model.language_model.", "language_model.model.")

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Architecture:
    """What a base's GGUF says of its layout."""

    head: GgufHead

    @cached_property
    def _names(self) -> dict[str, str]:
        kind, _, _ = KNOWN[self.head.architecture]
        names = get_tensor_name_map(kind, self.blocks)
        return {key: name for key, (_, name) in names.mapping.items()}

    @cached_property
    def modules(self) -> dict[str, str]:
        """The modules that may get a LoRA, as transformers names them, such as `model.layers.0.self_attn.q_proj` -> their GGUF tensors."""
        _, _, parts = KNOWN[self.head.architecture]
        names = [f"model.layers.{block}.{part}" for block in range(self.blocks) for part in parts]
        there = {name: f"{self._names[name]}.weight" for name in names}
        return {**there, "lm_head": OUTPUT} if any(tensor.name == OUTPUT for tensor in self.head.tensors) else there

    @property
    def blocks(self) -> int:
        """How many blocks the base has."""
        return self.head.count("block_count")

    @property
    def layers(self) -> frozenset[str]:
        """The names of the layers in each block that may get a LoRA: `q_proj`, `up_proj`, ..."""
        return frozenset(part.rpartition(".")[2] for part in KNOWN[self.head.architecture][2])

    def tensor_name(self, module: str) -> str | None:
        """The GGUF tensor of a transformers module such as `model.layers.0.self_attn.q_proj`, or None where it may get no LoRA."""
        return self.modules.get(module_name(module))

    @cached_property
    def lora_tensors(self) -> frozenset[str]:
        """The GGUF tensors that may get a LoRA."""
        return frozenset(self.modules.values())

    def stored(self, module: str) -> str | None:
        """The GGUF tensor of any module's weight, such as `model.norm` or `lm_head`, or None where the architecture has no such module."""
        name = self._names.get(module_name(module))
        return None if name is None else f"{name}.weight"

    def in_file_order(self, tensor: str, rows: NDArray[Number]) -> NDArray[Number]:
        """The rows of a matrix as the GGUF has them: q and k of llama, and of no other, are permuted, so that their rotary halves lie side by side.

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
        if self.head.architecture not in PERMUTED:
            return None
        if tensor.endswith(".attn_q.weight"):
            return self.head.count("attention.head_count")
        if tensor.endswith(".attn_k.weight"):
            own = f"{self.head.architecture}.attention.head_count_kv" in self.head.keys
            return self.head.count("attention.head_count_kv" if own else "attention.head_count")
        return None


def module_name(module: str) -> str:
    """A module's name in the language model alone: `model.layers.0...`, where transformers calls it `model.language_model.layers.0...`."""
    inside = next((prefix for prefix in _INSIDE if module.startswith(prefix)), None)
    return module if inside is None else f"model.{module.removeprefix(inside)}"


def _swapped(rows: NDArray[Number], heads: int, first: int, second: int) -> NDArray[Number]:
    parts = rows.reshape(heads, first, second, *rows.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(1, 2).reshape(rows.shape))


def read_architecture(path: Path) -> Architecture:
    """The architecture of the base in this GGUF file, which is read once as long as it stays the same. Raises BuildError."""
    try:
        now = path.stat()
    except OSError:  # reading it says so
        return architecture_of(read_head(path), path)
    return _read(path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, *_: int) -> Architecture:
    content = mapped(path)
    head = parse_head(content, path)
    architecture = architecture_of(head, path)
    if head.tensors:  # a download that broke off: said before anything is trained on it
        tensor_data(max(head.tensors, key=lambda tensor: tensor.offset), head, content, path)
    return architecture


def architecture_of(head: GgufHead, path: Path) -> Architecture:
    """The base's architecture; `path` is for the message. Raises BuildError where it is not one that is known, or no base at all."""
    if head.keys.get("general.type") == "adapter":
        msg = f"{path}: an adapter, not a base: its general.type is 'adapter'"
        raise BuildError(msg, fix="give the base itself; an adapter is what a model's `adapter` names")
    if head.architecture not in KNOWN:
        msg = f"{path}: architecture {head.architecture!r} is not known"
        known = ", ".join(f"{name} ({what})" for name, (_, what, _) in KNOWN.items())
        raise BuildError(msg, fix=f"use a base of: {known}")
    return Architecture(head)
