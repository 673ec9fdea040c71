"""The base that is served, as a folder that transformers loads: what is trained is what is served.

Without torch and transformers, which take 20 s for what is done here in one (facts: they parse the GGUF again and again), so that every
trainer can be given it, in whatever environment it lives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ollamake.bases.hf_config import generation_config, model_config
from ollamake.bases.hf_tokenizer import tokenizer_files
from ollamake.bases.hf_weights import Weights
from ollamake.bases.kept import kept_folder
from ollamake.lora.architecture import architecture_of
from ollamake.lora.gguf_file import GgufHead, read_head

FORM = "hf"
VERSION = 1  # of the files' form: folders of earlier ones are made again


def hf_folder(gguf: Path, digest: str, cache: Path) -> Path:
    """The folder with the weights, config and tokenizer of the base in this GGUF file, made in `cache` where it is not there yet.

    `digest` is that of the GGUF. Weights are float32 (bfloat16 from two thousand million parameters on); where the GGUF has float16 or bfloat16, just
    those. Raises BuildError where the base is not one that can be written so, or the disk has no room.
    """
    base = _Base(gguf)
    return kept_folder(cache, digest, FORM, VERSION, size=base.size, make=base.write)


@dataclass(frozen=True)
class _Base:
    gguf: Path

    @cached_property
    def _head(self) -> GgufHead:
        return read_head(self.gguf, with_arrays=True)

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.gguf, architecture_of(self._head, self.gguf))

    def size(self) -> int:
        """Bytes that the folder will take, about."""
        return self._weights.size + 4 * sum(len(token.encode()) + 16 for token in self._head.keys.get("tokenizer.ggml.tokens", ()))

    def write(self, folder: Path) -> None:
        """Write its files: first what may be refused, then what takes long."""
        weights, keys = self._weights, self._head.keys
        config = model_config(weights.architecture, self.gguf, dtype=weights.dtype, rope_factors=weights.rope_factors())
        files = {**tokenizer_files(keys, self.gguf), "config.json": _json(config), "generation_config.json": _json(generation_config(keys))}
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        weights.write(folder / "model.safetensors")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
