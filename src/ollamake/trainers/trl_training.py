"""TRL's SFTTrainer on a job: `train.py` in its folder, started there by the Python of TRL's environment."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from ollamake.trainers.hf_progress import fail  # isort: skip  # first: it keeps standard output for events

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer

from ollamake.trainers.hf_examples import write_examples
from ollamake.trainers.hf_gpus import check_gpus
from ollamake.trainers.native_options import check_options, fields_of
from ollamake.trainers.sft_run import Work, arguments_of, read_work, start_from, train

# Keys of ModelConfig's (of SFTConfig's, the last one) -> those of what they are for.
_LOADS = {"dtype": "dtype", "attn_implementation": "attn_implementation", "model_revision": "revision", "trust_remote_code": "trust_remote_code"}
_ADAPTS = {"lora_dropout": "lora_dropout", "use_rslora": "use_rslora"}


def main() -> None:
    """Do the job in this folder."""
    work = read_work()
    known = {**fields_of(ModelConfig), **fields_of(SFTConfig)}
    check_options(work.options, known, who=f"TRL {importlib.metadata.version('trl')}")
    half = bool(work.job["gpus"]) and torch.cuda.is_bf16_supported()
    arguments = arguments_of(work, SFTConfig, bf16=half and not work.options.get("fp16"))
    if not arguments.use_cpu:
        check_gpus(work.job)
    examples = write_examples(work.job)
    set_seed(work.job["recipe"]["seed"])
    model = _with_lora(_model(work, dtype="bfloat16" if half else "float32"), work)
    start_from(model, work)
    train(SFTTrainer, work, arguments, examples=examples, model=model, tokenizer=AutoTokenizer.from_pretrained(work.job["base"]["path"]))


def _model(work: Work, *, dtype: str) -> Any:
    path = work.job["base"]["path"]
    settings = {"dtype": dtype, **_renamed(work.options, _LOADS), **(work.options.get("model_init_kwargs") or {})}
    quantization = _quantization(work)
    if quantization is not None:
        settings["quantization_config"] = quantization
    try:
        return AutoModelForCausalLM.from_pretrained(path, **settings)
    except (ImportError, OSError, ValueError) as error:
        fail(f"the base can't be loaded from {path}: {error}")
        raise


def _renamed(options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {theirs: options[name] for name, theirs in names.items() if name in options}


def _quantization(work: Work) -> Any:
    """For QLoRA, which the catalog's policy has let pass."""
    options = work.options
    bits = next((name for name in ("load_in_4bit", "load_in_8bit") if options.get(name)), None)
    if bits is None:
        return None
    if not work.job["gpus"]:
        fail(f"options.{bits}: needs a GPU", fix=f"remove {bits!r}", key=f"options.{bits}")
    if bits == "load_in_8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.get("bnb_4bit_quant_type", "nf4"),
        bnb_4bit_use_double_quant=options.get("use_bnb_nested_quant", False),
        bnb_4bit_quant_storage=options.get("bnb_4bit_quant_storage"),
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _with_lora(model: Any, work: Work) -> Any:
    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", bias="none", **{**work.native["lora"], **_renamed(work.options, _ADAPTS)}))
    except ValueError as error:
        fail(f"the base takes no such LoRA: {error}", key="target_modules")
        raise


if __name__ == "__main__":
    main()
