"""Unsloth: its FastLanguageModel below TRL's SFTTrainer, in an environment of its own, on the base as transformers loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ollamake.trainers.hf_job import batch_objections
from ollamake.trainers.hf_trainer import HfTrainer
from ollamake.trainers.port import Command, Job, Objection
from ollamake.trainers.refused import (
    BIAS,
    DORA,
    EMBEDDED,
    PARAMETERS,
    QUANTIZED,
    STARTS_ELSEWHERE,
    WHOLE_MODULES,
    Refusal,
    decided,
    instead,
    one_gpu,
    refused,
    says_something,
)
from ollamake.trainers.sft_job import ACCUMULATION, NAMES, sft_command

# The oldest that were tried.
NEEDS = {"torch": "2.6", "transformers": "5.0", "peft": "0.18", "trl": "1.15", "unsloth": "2026.10", "unsloth_zoo": "2026.10"}
_LORA: Mapping[str, Refusal] = {
    **dict.fromkeys(("load_in_4bit", "load_in_8bit", "load_in_fp8", "qat_scheme", "quantization_config"), QUANTIZED),
    "use_dora": DORA,
    "modules_to_save": WHOLE_MODULES,
    "bias": BIAS,
    "init_lora_weights": STARTS_ELSEWHERE,
    "loftq_config": Refusal(text=STARTS_ELSEWHERE.text),
    "target_parameters": PARAMETERS,
    "embedding_learning_rate": EMBEDDED,
    "resize_model_vocab": EMBEDDED,
    "ensure_weight_tying": EMBEDDED,
    "full_finetuning": Refusal(
        text="full fine-tuning makes no LoRA",
        fix="remove {key!r}, or train by `trainer: llama.cpp`, which makes whole weights",
        when=says_something,
    ),
    "r": instead("rank"),
    "lora_alpha": instead("alpha"),
    "target_modules": instead("target_modules"),
    "random_state": instead("seed"),
    "fast_inference": decided("that nothing is asked of the model while it trains"),
    "temporary_location": decided("where checkpoints and the adapter are"),
}


class UnslothTrainer(HfTrainer):
    """Trains a LoRA by Unsloth; `options` are those of FastLanguageModel's from_pretrained and get_peft_model, and of TRL's SFTConfig."""

    name = "unsloth"
    needs = NEEDS
    wanted = f"unsloth>={NEEDS['unsloth']}"

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """QLoRA by policy; what can't be served, and what the catalog or ollamake decides."""
        return (*refused(recipe.get("options", {}), {**_LORA, **NAMES}), *batch_objections(recipe, ACCUMULATION))

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:  # noqa: ARG002 - whatever the recipe
        """More than one."""
        return one_gpu(gpus, self.name)

    def plan(self, job: Job) -> Command:
        """Python of Unsloth's environment with a script of ours. Its CLI reads no records of ours, and can't resume. It takes one GPU."""
        cpu = {} if job.gpus else {"UNSLOTH_FORCE_CPU": "1"}
        environment = {"UNSLOTH_DISABLE_STATISTICS": "1", "UNSLOTH_COMPILE_LOCATION": str(job.work / "compiled"), **cpu}
        return sft_command(replace(job, gpus=min(job.gpus, 1)), "unsloth_training", environment)
