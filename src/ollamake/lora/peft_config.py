"""What the adapter_config.json of a PEFT directory says of its tensors, and what of that no server carries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.lora.verdict import CARRIED, REFUSED, WARNING, Verdict, is_factor

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# Keys of the config that, where they say something, make more of the adapter than its A and B.
NOT_CARRIED = (
    *("alora_invocation_tokens", "arrow_config", "bias", "fan_in_fan_out", "kasa_config", "layer_replication", "lora_bias", "modules_to_save"),
    *("monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora"),
)
# Those that are read here, and those that say how it was trained or loaded: nothing of what it computes.
KNOWN = frozenset(
    {
        *("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "base_model_name_or_path"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "peft_version", "task_type", "auto_mapping", "revision"),
        *("inference_mode", "lora_dropout", "megatron_config", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
        *("velora_config", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
    }
)
_Found = tuple[str, str, str, str | None]  # kind, key, text, fix
DEFAULTS = {"r": 8, "lora_alpha": 8}  # of peft's LoraConfig, in all its versions
PLAIN = "train a plain LoRA on attention and MLP layers: no DoRA, no bias, no modules_to_save"
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Words by which models are named whose weights are quantized for training: unsloth/llama-3-8b-bnb-4bit, TheBloke/x-GPTQ. A GGUF's Q4_1 is none of
# them: the embedded trainer makes full weights of it.
_QUANTIZED = re.compile(r"(?:^|[-_./])(?:bnb|[48]-?bits?|nf4|int[48]|gptq|awq|hqq|aqlm|exl2|w[48]a(?:8|16))(?=$|[-_./])", re.IGNORECASE)


def read_config(path: Path) -> dict[str, Any]:
    """The config in this file. Raises BuildError."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        msg = f"{path}: no such file"
        raise BuildError(msg, fix=f"give a PEFT directory: {CONFIG} and {WEIGHTS}") from None
    except (OSError, ValueError) as error:
        msg = f"{path}: can't be read: {error}"
        raise BuildError(msg, fix="fetch the adapter again, or train it") from error
    if not isinstance(config, dict):
        msg = f"{path}: not a JSON object"
        raise BuildError(msg, fix="fetch the adapter again, or train it")
    return config


def config_verdicts(config: Mapping[str, Any], path: Path) -> Iterator[Verdict]:
    """What is found in the config alone; `path` is that of the adapter, for messages."""
    for kind, key, text, fix in (*_of_scale(config), *_of_patterns(config), *_of_kind(config), *_of_unknown(config)):
        yield Verdict(kind=kind, what=key, text=text, file=str(path), fix=fix)


def _of_scale(config: Mapping[str, Any]) -> Iterator[_Found]:
    for key, is_right, wanted in (("r", _is_rank, "a whole number above 0"), ("lora_alpha", _is_alpha, "a number other than 0 that a float32 holds")):
        if key not in config:
            text = f"{key} is not in {CONFIG}: it is taken for {DEFAULTS[key]}, as peft does"
            yield WARNING, key, text, f"write the {key} that it was trained with into {CONFIG}"
        elif not is_right(config[key]):
            yield REFUSED, key, f"{key} is {config[key]!r}, not {wanted}", f"write the {key} that it was trained with into {CONFIG}"
    if isinstance(config.get("lora_alpha"), float) and _is_alpha(config["lora_alpha"]):
        yield CARRIED, "lora_alpha", f"lora_alpha is {config['lora_alpha']!r}", None
    if config.get("use_rslora"):
        yield CARRIED, "use_rslora", "use_rslora: what is learned is scaled by alpha / sqrt(r)", None


def _of_patterns(config: Mapping[str, Any]) -> Iterator[_Found]:
    for key, is_right, wanted in (
        ("rank_pattern", _is_rank, "whole numbers above 0"),
        ("alpha_pattern", _is_alpha, "numbers other than 0 that a float32 holds"),
    ):
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict) or not all(_is_pattern(pattern) and is_right(value) for pattern, value in patterns.items()):
            yield REFUSED, key, f"{key} is {patterns!r}, not modules with {wanted}", f"mend {key} in {CONFIG}"
        elif patterns:
            yield CARRIED, key, f"{key}: of {len(patterns)} modules, or patterns of them", None


def _of_kind(config: Mapping[str, Any]) -> Iterator[_Found]:
    if config.get("peft_type") != "LORA":
        yield REFUSED, "peft_type", f"peft_type is {config.get('peft_type')!r}, not 'LORA'", PLAIN
    for key in NOT_CARRIED:
        value = config.get(key)
        if value and value != "none":
            yield REFUSED, key, f"{key} is {value!r}, which a server of Ollama does not carry", PLAIN
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(CHANGES_THE_BASE):
        fix = "convert it to a plain LoRA: peft's save_pretrained takes `path_initial_model_for_weight_conversion`"
        yield REFUSED, "init_lora_weights", f"init_lora_weights is {start!r}, which changes the base's own weights", fix


def _of_unknown(config: Mapping[str, Any]) -> Iterator[_Found]:
    """What keys of a newer peft may mean: a switch that is on is one that does something, a number may be a default that nothing reads."""
    for key in sorted(config.keys() - KNOWN - set(NOT_CARRIED)):
        value = config[key]
        if value is True or (isinstance(value, (dict, list)) and value):
            text = f"{key} is {value!r}: a key of {CONFIG} that is not known here, so what it does can't be carried"
            yield REFUSED, key, text, f"where {key!r} changes nothing in what the adapter computes, remove it from {CONFIG}; else train without it"
        elif value:
            yield WARNING, key, f"{key} is {value!r}: a key of {CONFIG} that is not known here; it is left out", None


def rank_of(config: Mapping[str, Any], module: str) -> int:
    """The rank of this module's LoRA, as the config has it."""
    return int(_of_module(config, "rank_pattern", "r", module))


def alpha_of(config: Mapping[str, Any], module: str) -> float:
    """The alpha of this module's LoRA."""
    return float(_of_module(config, "alpha_pattern", "lora_alpha", module))


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """What B @ A is multiplied by."""
    return alpha_of(config, module) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def trained_on_quantized(config: Mapping[str, Any]) -> str | None:
    """By what the adapter's config tells that its base was quantized while it was trained (QLoRA and the like), or None where it doesn't."""
    if config.get("use_qalora"):
        return "use_qalora is true"
    start, base = config.get("init_lora_weights"), config.get("base_model_name_or_path")
    if isinstance(start, str) and start.lower().startswith("loftq"):
        return f"init_lora_weights is {start!r}"
    if isinstance(base, str) and names_quantized(base):
        return f"base_model_name_or_path is {base!r}"
    return None


def names_quantized(model: str) -> bool:
    """Is this the name of a model whose weights are quantized for training?"""
    return _QUANTIZED.search(model) is not None


def _of_module(config: Mapping[str, Any], patterns: str, otherwise: str, module: str) -> Any:
    """A module's value, by peft's rule (`get_pattern_key`): the first pattern that is its name, or the end of it behind a dot."""
    found = (value for pattern, value in (config.get(patterns) or {}).items() if re.match(rf"(.*\.)?({pattern})$", module))
    return next(found, config.get(otherwise, DEFAULTS[otherwise]))


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_alpha(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_factor(value)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
