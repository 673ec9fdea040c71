"""The keys of a llama GGUF as the config.json and generation_config.json of transformers' LlamaForCausalLM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ollamake.errors import BuildError
from ollamake.lora.architecture import Architecture

INSTEAD = "name the same base on Hugging Face beside it (`hf: OWNER/NAME`), so that the trainer loads that"
# Llama 3.1 to 3.3: the form of their long context. Only its factor differs, and a GGUF has it as one number for each rotated pair.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def model_config(architecture: Architecture, path: Path, *, dtype: str, rope_factors: NDArray[np.float32] | None) -> dict[str, Any]:
    """The config.json; `rope_factors` is the tensor of that name. Raises BuildError where transformers' Llama is not what the GGUF holds."""
    head = architecture.head
    if head.architecture != "llama":
        msg = f"{path}: a base of architecture {head.architecture!r} is trained on its weights from Hugging Face, not on the GGUF's"
        raise BuildError(msg, fix=INSTEAD)
    keys, shapes = head.keys, {tensor.name: tensor.shape for tensor in head.tensors}
    heads, hidden = head.count("attention.head_count"), head.count("embedding_length")
    size = keys.get("llama.attention.key_length", hidden // heads)
    theta = _short(keys.get("llama.rope.freq_base", 10_000.0))
    _check(keys, size, path)
    _columns, vocabulary = _embedding(shapes, path)
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": keys.get("tokenizer.ggml.bos_token_id"),
        "dtype": dtype,
        "eos_token_id": keys.get("tokenizer.ggml.eos_token_id"),
        "head_dim": size,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": head.count("feed_forward_length"),
        "max_position_embeddings": head.count("context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": head.count("block_count"),
        "num_key_value_heads": keys.get("llama.attention.head_count_kv", heads),
        "pad_token_id": keys.get("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": _short(keys.get("llama.attention.layer_norm_rms_epsilon", 1e-6)),
        "rope_scaling": _rope_scaling(keys, rope_factors, theta=theta, size=size, path=path),
        "rope_theta": theta,
        "tie_word_embeddings": "output.weight" not in shapes,
        "use_cache": True,
        "vocab_size": vocabulary,
    }


def generation_config(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The generation_config.json: what an answer begins and ends with."""
    numbers = {name: keys.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "padding")}
    ends = list(dict.fromkeys(numbers[name] for name in ("eos", "eot") if numbers[name] is not None))
    config = {"_from_model_config": True, "bos_token_id": numbers["bos"], "eos_token_id": ends[0] if len(ends) == 1 else ends or None}
    return {key: value for key, value in {**config, "pad_token_id": numbers["padding"]}.items() if value is not None}


def _check(keys: Mapping[str, Any], size: int, path: Path) -> None:
    """Refuse what runs as `llama` in llama.cpp, and is another model in transformers."""
    unlike = {
        "llama.expert_count": (0, "a mixture of experts"),
        "llama.rope.dimension_count": (size, f"rotated in part: head size {size}"),
        "llama.attention.value_length": (size, f"of values and keys that differ in size: key size {size}"),
    }
    for key, (usual, what) in unlike.items():
        if keys.get(key, usual) != usual:
            msg = f"{path}: {key} is {keys[key]!r}: {what}, which is not known here"
            raise BuildError(msg, fix=INSTEAD)
    if isinstance(keys.get("llama.attention.head_count_kv"), list) or isinstance(keys.get("llama.feed_forward_length"), list):
        msg = f"{path}: its layers differ in size, which is not known here"
        raise BuildError(msg, fix=INSTEAD)


def _embedding(shapes: Mapping[str, tuple[int, ...]], path: Path) -> tuple[int, ...]:
    if "token_embd.weight" not in shapes:
        msg = f"{path}: it has no tensor 'token_embd.weight'"
        raise BuildError(msg, fix="use a base that was written by llama.cpp's converter, whole: not a part of one, or its vocabulary alone")
    return shapes["token_embd.weight"]


def _rope_scaling(keys: Mapping[str, Any], factors: NDArray[np.float32] | None, *, theta: float, size: int, path: Path) -> dict[str, Any] | None:
    kind = keys.get("llama.rope.scaling.type", "linear" if "llama.rope.scale_linear" in keys else "none")
    factor = keys.get("llama.rope.scaling.factor", keys.get("llama.rope.scale_linear", 1.0))
    if factors is not None:
        return _llama3(factors, theta=theta, size=size, path=path)
    if kind == "none" or (kind == "linear" and factor in {0.0, 1.0}):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": _short(factor)}
    msg = f"{path}: llama.rope.scaling.type is {kind!r}, which is not known here"
    raise BuildError(msg, fix=INSTEAD)


def _llama3(factors: NDArray[np.float32], *, theta: float, size: int, path: Path) -> dict[str, Any]:
    """The scaling that gives these factors: the slowest pair has the whole of it."""
    factor = _short(factors.max())
    if factors.shape != (size // 2,) or not np.allclose(factors, llama3_factors(factor, theta=theta, size=size), rtol=1e-4):
        msg = f"{path}: tensor 'rope_freqs.weight' is none of Llama 3's"
        raise BuildError(msg, fix=INSTEAD)
    return {"rope_type": "llama3", "factor": factor, **LLAMA3}


def llama3_factors(factor: float, *, theta: float, size: int) -> NDArray[np.float32]:
    """What each rotated pair's frequency is divided by (the rule of Llama 3.1's own code): nothing for the fast, all for the slow."""
    low, high, context = LLAMA3.values()
    turns = context / (2 * math.pi) * theta ** -(np.arange(0, size, 2) / size)  # of the pair, in the context that it was trained on first
    share = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / (share + (1 - share) / factor), dtype=np.float32)


def _short(number: Any) -> float:
    """The shortest number that is the same in float32, as it was before it was written into the GGUF: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(number)))
