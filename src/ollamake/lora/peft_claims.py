"""What the config of a PEFT directory claims of its training, held against the tensors that are there and the base: warnings, for it may be meant so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ollamake.lora.architecture import Architecture, module_name
from ollamake.lora.verdict import WARNING, Verdict

# A model's name on Hugging Face, with its owner or without; no file, and no path.
_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*")
_BLOCK = re.compile(r"(?:.*\.)?layers\.(\d+)\.")
# What a copy of a model, quantized for training, has behind its name: policy `qlora` tells of that.
_COPY = re.compile(r"(?:[-._](?:unsloth|bnb|[48]-?bits?|nf4|int[48]|gptq|awq|hqq|aqlm|gguf|fp16|bf16))+$", re.IGNORECASE)


def base_verdicts(config: Mapping[str, Any], base: str | None, path: Path) -> Iterator[Verdict]:
    """That it was trained on another base than this name of Hugging Face's, where the config names one; `path`: the adapter's, for messages."""
    trained_on = config.get("base_model_name_or_path")
    if base is None or not isinstance(trained_on, str) or not _is_name(trained_on) or not _is_name(base) or _model(trained_on) == _model(base):
        return
    text = f"base_model_name_or_path is {trained_on!r}, and the base is {base!r}: on another base than its own an adapter does harm"
    fix = "serve it with the base that it was trained on; where both are the same weights, mend one of the names"
    yield Verdict(kind=WARNING, what="base_model_name_or_path", text=text, file=str(path), fix=fix)


def target_verdicts(config: Mapping[str, Any], modules: Sequence[str], architecture: Architecture, path: Path) -> Iterator[Verdict]:
    """The layers that the config says were trained, of which some blocks, or all, have no tensors among those of these modules."""
    there = {module_name(module) for module in modules}
    inside = next((module for module in modules if module != module_name(module)), None)
    prefix = "" if inside is None else inside.removesuffix(module_name(inside).removeprefix("model."))
    wanted: dict[str, list[str]] = {}  # layer -> its modules
    for module in architecture.modules:
        called = f"{prefix}{module.removeprefix('model.')}" if prefix else module
        if module != "lm_head" and _is_target(config, called):
            wanted.setdefault(module.rpartition(".")[2], []).append(module)
    for layer, its in wanted.items():
        missing = [match[1] for module in its if module not in there and (match := _BLOCK.match(module))]
        if missing:
            some = "all blocks" if len(missing) == len(its) else f"{len(missing)} of {len(its)} blocks: {_numbers(missing)}"
            text = f"target_modules names {layer}, which has no tensors in {some}"
            yield Verdict(kind=WARNING, what=layer, text=text, file=str(path), fix="fetch the adapter again, if it is not meant so")


def _is_target(config: Mapping[str, Any], module: str) -> bool:
    """Was a LoRA put on this module, by peft's rules?"""
    targets, left_out = config.get("target_modules"), config.get("exclude_modules")
    if targets is None or (left_out and _names(left_out, module)):
        return False
    if not (targets == "all-linear" or _names(targets, module)):
        return False
    blocks = config.get("layers_to_transform")
    match = _BLOCK.match(module)
    return blocks is None or match is None or int(match[1]) in (blocks if isinstance(blocks, list) else [blocks])


def _names(patterns: object, module: str) -> bool:
    if isinstance(patterns, str):
        try:
            return re.fullmatch(patterns, module) is not None
        except re.error:
            return False
    return isinstance(patterns, list) and any(module == name or module.endswith(f".{name}") for name in patterns)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not text.lower().endswith(".gguf")


def _model(name: str) -> str:
    """The model's own part of its name: owners may hold copies of one another's."""
    return _COPY.sub("", name.rpartition("/")[2]).lower()


def _numbers(blocks: Sequence[str]) -> str:
    return ", ".join(blocks[:8]) + (", ..." if len(blocks) > 8 else "")
