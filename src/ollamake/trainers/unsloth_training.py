"""Unsloth on a job: `train.py` in its folder, started there by the Python of Unsloth's environment."""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

if json.loads(Path("job.json").read_text(encoding="utf-8"))["gpus"]:  # Unsloth trains on one, and torch would take all that it sees
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]

from unsloth import FastLanguageModel  # isort: skip  # before the others, which it changes

import torch
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from ollamake.trainers.hf_examples import write_examples
from ollamake.trainers.hf_progress import fail
from ollamake.trainers.native_options import check_options, fields_of, key_of, parameters_of
from ollamake.trainers.sft_run import Work, arguments_of, read_work, start_from, train

_LOADS, _ADAPTS = (parameters_of(function) for function in (FastLanguageModel.from_pretrained, FastLanguageModel.get_peft_model))


def main() -> None:
    """Do the job in this folder."""
    work = read_work()
    known = {**fields_of(SFTConfig), **_ADAPTS, **_LOADS}
    check_options(work.options, known, who=f"Unsloth {importlib.metadata.version('unsloth')}")
    half = bool(work.job["gpus"]) and torch.cuda.is_bf16_supported()
    arguments = arguments_of(work, SFTConfig, bf16=half and not work.options.get("fp16"))
    examples = write_examples(work.job)
    set_seed(work.job["recipe"]["seed"])
    model, tokenizer = _model(work)
    start_from(model, work)
    train(SFTTrainer, work, arguments, examples=examples, model=model, tokenizer=tokenizer)


def _model(work: Work) -> tuple[Any, Any]:
    """The base with a new LoRA, and its tokenizer."""
    recipe, path, on_gpu = work.job["recipe"], work.job["base"]["path"], bool(work.job["gpus"])
    checkpointing = "unsloth" if on_gpu else False
    exact = {"use_exact_model_name": True} if "use_exact_model_name" in _LOADS else {}  # no other copy of the base than the one that is named
    loads = {"dtype": None if on_gpu else "float32", "load_in_4bit": False, "use_gradient_checkpointing": checkpointing, **exact}
    loads.update({name: value for name, value in work.options.items() if name in _LOADS})
    if isinstance(loads["dtype"], str) and hasattr(torch, loads["dtype"]):
        loads["dtype"] = getattr(torch, loads["dtype"])
    adapts = {**work.native["lora"], "bias": "none", "use_gradient_checkpointing": checkpointing, "random_state": recipe["seed"]}
    adapts.update({name: value for name, value in work.options.items() if name in _ADAPTS})
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(path, max_seq_length=recipe["max_tokens"], **loads)
        return FastLanguageModel.get_peft_model(model, **adapts), tokenizer
    except (ImportError, NotImplementedError, OSError, TypeError, ValueError) as error:
        fail(f"Unsloth can't load the base from {path}: {error}", key=key_of(error, work.options))
        raise


if __name__ == "__main__":
    main()
