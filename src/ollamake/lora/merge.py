"""A checked adapter merged into its base's GGUF, for any server.

Keys and untouched tensors are copied byte for byte. A changed tensor is dequantized, added to and written in a type fine enough for what
was learned: a LoRA delta is smaller than a 4-bit step, so Q4 would lose it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ollamake.lora.adapter import LoraAdapter, Pair
from ollamake.lora.gguf_file import GgufHead, Tensor, mapped
from ollamake.lora.quants import quantized
from ollamake.lora.rewrite import tensor_data, tensor_weights, write_gguf

WEIGHTS_TYPES = {"q8_0": GGMLQuantizationType.Q8_0, "f16": GGMLQuantizationType.F16}


def write_merged_gguf(base: Path, head: GgufHead, adapter: LoraAdapter, weights_type: str, target: Path) -> None:
    """Write base plus adapter as `target`; `weights_type` is one of WEIGHTS_TYPES. Raises BuildError."""
    pairs = {pair.tensor: pair for pair in adapter.pairs}
    types = {tensor.name: changed_type(tensor, weights_type) if tensor.name in pairs else tensor.type for tensor in head.tensors}
    content = mapped(base)

    def data_of(tensor: Tensor) -> memoryview:
        data = tensor_data(tensor, head, content, base)
        pair = pairs.get(tensor.name)
        return data if pair is None else _merged(data, tensor, pair, types[tensor.name])

    write_gguf(head, content[head.keys_start : head.keys_end], types, data_of, target)


def changed_type(tensor: Tensor, weights_type: str) -> int:
    """The type in which a matrix is written that has other weights than the base: one of WEIGHTS_TYPES, or F16 where its columns are no whole blocks."""
    wanted = WEIGHTS_TYPES[weights_type]
    block, _ = GGML_QUANT_SIZES[wanted]
    return int(wanted if tensor.shape[0] % block == 0 else GGMLQuantizationType.F16)


def _merged(data: memoryview, tensor: Tensor, pair: Pair, kind: int) -> memoryview:
    weights = tensor_weights(tensor, data)
    weights += (np.float32(pair.scale) * pair.b) @ pair.a
    return quantized(weights, kind)
