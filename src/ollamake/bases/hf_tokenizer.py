"""A GGUF's tokenizer as transformers' files: tokenizer.json, tokenizer_config.json and special_tokens_map.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback, ByteLevel, Fuse, Replace, Sequence, Strip
from tokenizers.processors import TemplateProcessing

from ollamake.bases.hf_config import INSTEAD
from ollamake.errors import BuildError
from ollamake.records.tokens import Rendering

_CONTROL = 3  # llama.cpp's token type
_BEGINS_WITH_BOS = {"llama3", "llama-v3", "llama-bpe"}  # of the byte-pair encodings, where the GGUF says nothing (llama-vocab.cpp)


def tokenizer_files(keys: Mapping[str, Any], path: Path) -> dict[str, str]:
    """The files, by name. Their tokens are those that llama.cpp makes of a text. Raises BuildError where the tokenizer's kind is not known."""
    tokenizer = Rendering(keys).tokenizer
    if tokenizer is None:
        kind, split = keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.pre")
        msg = f"{path}: its tokenizer is of a kind that is not known here: model {kind!r}, pre {split!r}"
        raise BuildError(msg, fix=INSTEAD)
    tokens = _special_tokens(keys)
    adds_bos = adds(keys, "bos") and "bos_token" in tokens
    adds_eos = adds(keys, "eos") and "eos_token" in tokens
    _finish(tokenizer, keys, bos=tokens["bos_token"] if adds_bos else None, eos=tokens["eos_token"] if adds_eos else None)
    config = {
        **tokens,
        "add_bos_token": adds_bos,
        "add_eos_token": adds_eos,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": keys.get("llama.context_length"),
        "padding_side": "right",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    template = keys.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        "special_tokens_map.json": json.dumps(tokens, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
    }


def _special_tokens(keys: Mapping[str, Any]) -> dict[str, str]:
    """By transformers' names. A trainer needs a token to pad with: where the GGUF names none, one that is made for it, and only then another."""
    tokens = keys["tokenizer.ggml.tokens"]
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    numbers = {ours: keys.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in named.items()}
    found = {name: str(tokens[number]) for name, number in numbers.items() if isinstance(number, int) and 0 <= number < len(tokens)}
    if "pad_token" not in found:
        types = keys.get("tokenizer.ggml.token_type", [])
        made_for_it = (str(token) for token, kind in zip(tokens, types, strict=False) if kind == _CONTROL and "pad" in token)
        pad = next(made_for_it, found.get("unk_token", found.get("eos_token")))
        if pad is not None:
            found["pad_token"] = pad
    return found


def adds(keys: Mapping[str, Any], end: str) -> bool:
    """Does llama.cpp write this token around every text?"""
    own = keys.get(f"tokenizer.ggml.add_{end}_token")
    if isinstance(own, bool):
        return own
    return end == "bos" and (keys.get("tokenizer.ggml.model") == "llama" or keys.get("tokenizer.ggml.pre") in _BEGINS_WITH_BOS)


def _finish(tokenizer: Tokenizer, keys: Mapping[str, Any], *, bos: str | None, eos: str | None) -> None:
    """Give it what counting does not need: how tokens become text again, and the tokens around a text."""
    if keys.get("tokenizer.ggml.model") == "llama":
        space = [Strip(" ", 1, 0)] if keys.get("tokenizer.ggml.add_space_prefix", True) else []
        tokenizer.decoder = Sequence([Replace("▁", " "), ByteFallback(), Fuse(), *space])
    else:
        tokenizer.decoder = ByteLevel()
    around = [token for token in (bos, eos) if token is not None]
    if around:
        single = [*([bos] if bos else []), "$A", *([eos] if eos else [])]
        pair = [*single, *(f"{piece}:1" for piece in [*([bos] if bos else []), "$B", *([eos] if eos else [])])]
        tokenizer.post_processor = TemplateProcessing(
            single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(around)]
        )
