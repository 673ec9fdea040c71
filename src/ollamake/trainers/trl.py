"""TRL: its SFTTrainer, in an environment of its own, on the base as transformers loads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollamake.trainers.hf_job import batch_objections, shared_batch
from ollamake.trainers.hf_trainer import HfTrainer
from ollamake.trainers.port import Command, Job, Objection
from ollamake.trainers.refused import (
    DORA,
    EMBEDDED,
    NO_LORA,
    PARAMETERS,
    QUANTIZED,
    WHOLE_MODULES,
    Refusal,
    instead,
    only,
    refused,
)
from ollamake.trainers.sft_job import ACCUMULATION, NAMES, sft_command

# The oldest that were tried. TRL of 1.15 takes the labels that it is given.
NEEDS = {"torch": "2.6", "transformers": "5.0", "peft": "0.18", "trl": "1.15"}
_LORA: Mapping[str, Refusal] = {
    "load_in_4bit": QUANTIZED,
    "load_in_8bit": QUANTIZED,
    "use_bnb_nested_quant": QUANTIZED,
    "model_init_kwargs.quantization_config": QUANTIZED,
    "use_dora": DORA,
    "lora_modules_to_save": WHOLE_MODULES,
    "lora_target_parameters": PARAMETERS,
    "trainable_token_indices": EMBEDDED,
    "use_peft": NO_LORA,
    "lora_task_type": only("CAUSAL_LM", "another task makes no chat model"),
    "lora_r": instead("rank"),
    "lora_alpha": instead("alpha"),
    "lora_target_modules": instead("target_modules"),
}


class TrlTrainer(HfTrainer):
    """Trains a LoRA by TRL's SFTTrainer; `options` are those of SFTConfig and ModelConfig."""

    name = "trl"
    needs = NEEDS
    wanted = f"trl[peft]>={NEEDS['trl']}"

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """QLoRA by policy; what can't be served, and what the catalog or ollamake decides."""
        return (*refused(recipe.get("options", {}), {**_LORA, **NAMES}), *batch_objections(recipe, ACCUMULATION))

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:
        """A batch that they can't share."""
        return shared_batch(recipe, gpus, ACCUMULATION)

    def plan(self, job: Job) -> Command:
        """Python of TRL's environment with a script of ours."""
        return sft_command(job, "trl_training", {})
