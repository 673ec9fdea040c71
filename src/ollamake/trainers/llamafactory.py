"""LLaMA-Factory, as a trainer: a config of its own is written from the recipe, and its program run where LLaMA-Factory is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ollamake.trainers.carried import carried, take_adapter
from ollamake.trainers.hf_job import (
    EXAMPLES,
    WARMUP_SHARE,
    batch_objections,
    batches,
    environment_of,
    epoch_steps,
    integer_alpha,
    save_steps,
    shared_batch,
)
from ollamake.trainers.hf_trainer import HfTrainer
from ollamake.trainers.llamafactory_keys import LLAMAFACTORY
from ollamake.trainers.port import Command, Event, Job, Objection, json_event
from ollamake.trainers.refused import refused

NEEDS = {"llamafactory": "0.9.5", "torch": "2.6", "transformers": "4.55", "peft": "0.18", "trl": "0.18"}  # the oldest that were tried
CONFIG = "llamafactory.yaml"
STARTS = "ollamake_llamafactory"
LOG = "work/trainer_log.jsonl"  # LLaMA-Factory's own name for it
ACCUMULATION = "gradient_accumulation_steps"
_WORDS = {"step": "current_steps", "steps": "total_steps", "epoch": "epoch", "learning_rate": "lr"}  # ours -> its log's
_LOSSES = {"evaluation": "eval_loss", "step": "loss"}
_TIME = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


class LlamaFactoryTrainer(HfTrainer):
    """Trains with LLaMA-Factory, on GPUs where there are some, else on the CPU."""

    name = "llamafactory"
    needs = NEEDS
    wanted = "llamafactory"

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """What Ollama can't serve, what the catalog has keys of its own for, and what would change what a batch is."""
        return (
            *integer_alpha(recipe, "LLaMA-Factory"),
            *refused(recipe.get("options", {}), LLAMAFACTORY),
            *batch_objections(recipe, ACCUMULATION),
        )

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:
        """A batch that they can't share."""
        return shared_batch(recipe, gpus, ACCUMULATION)

    def plan(self, job: Job) -> Command:
        """Python with what checks the options and makes the text into tokens, and then becomes `llamafactory-cli train`."""
        processes, _, _ = batches(job, ACCUMULATION)
        several = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": str(processes)} if processes > 1 else {}
        text = yaml.safe_dump(config_of(job), sort_keys=False, allow_unicode=True)
        return Command(
            argv=job.environment.python("-m", STARTS),
            environment={**environment_of(job), **several},
            files={CONFIG: text, LOG: "", **carried(**{STARTS: "llamafactory_start"})},
            follows=LOG,
        )

    def progress(self, line: str) -> Event | None:
        """What a line tells: of what we start in our own words, of LLaMA-Factory's log in its own."""
        return json_event(line) or _logged(line)

    def collect(self, folder: Path) -> Path:
        """The adapter, taken from among the checkpoints."""
        return take_adapter(folder)


def config_of(job: Job) -> dict[str, Any]:
    """LLaMA-Factory's config: its keys for those of the recipe, what ollamake decides, and the catalog's `options` over what is left."""
    recipe = job.recipe
    _, micro, accumulation = batches(job, ACCUMULATION)
    return {
        "model_name_or_path": str(job.base["path"]),
        **({} if job.start is None else {"adapter_name_or_path": job.start.relative_to(job.folder).as_posix()}),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": recipe["rank"],
        "lora_alpha": int(recipe["alpha"]),
        "lora_dropout": 0.0,
        "lora_target": ",".join(recipe["target_modules"]),
        "dataset": "text",  # it wants a name, and reads the tokens
        "tokenized_path": EXAMPLES,
        "template": "empty",  # its own form of chats: none is needed any more
        "cutoff_len": recipe["max_tokens"],
        "num_train_epochs": recipe["epochs"],
        "per_device_train_batch_size": micro,
        ACCUMULATION: accumulation,
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": int(job.steps * WARMUP_SHARE),
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": recipe["seed"],
        "flash_attn": "sdpa",
        **({"bf16": True} if job.gpus else {"use_cpu": True, "bf16": False, "fp16": False, "disable_gradient_checkpointing": True}),
        "report_to": "none",
        "logging_steps": 1,
        "save_total_limit": 2,
        **_evaluated(job, micro),
        "output_dir": "work",
        **({} if job.checkpoint is None else {"resume_from_checkpoint": job.checkpoint.relative_to(job.folder).as_posix()}),
        **recipe.get("options", {}),
    }


def _evaluated(job: Job, micro: int) -> dict[str, Any]:
    """When checkpoints are written and the holdout is read, and what comes of that.

    Both by steps, and never by epochs: of a step that has both, the checkpoint then knows what the holdout said.
    """
    keep, patience = job.recipe.get("keep", "last"), job.recipe.get("patience")
    if job.holdout is None:
        return {"save_strategy": "steps", "save_steps": save_steps(job)}
    return {
        "eval_dataset": "holdout",
        "eval_strategy": "steps",
        "eval_steps": epoch_steps(job),
        "per_device_eval_batch_size": micro,
        "metric_for_best_model": "eval_loss",
        "load_best_model_at_end": keep == "best",
        "save_strategy": "steps",
        "save_steps": epoch_steps(job) if keep == "best" else save_steps(job),
        # It counts evaluations, and has to go on counting where a training goes on.
        **({} if patience is None else {"early_stopping_steps": patience, "restore_callback_states_from_checkpoint": True}),
    }


def _logged(line: str) -> Event | None:
    """The event of a line of `trainer_log.jsonl`."""
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    kinds = [kind for kind, loss in _LOSSES.items() if isinstance(facts, dict) and loss in facts]
    if not kinds:
        return None
    told = {there: facts.get(here) for there, here in {**_WORDS, "loss": _LOSSES[kinds[0]]}.items()}
    return json_event(json.dumps({"event": kinds[0], **told, "seconds_left": _seconds(facts.get("remaining_time")) if kinds[0] == "step" else None}))


def _seconds(told: Any) -> float | None:
    """Those of `0:01:05`, or of `1 day, 0:01:05`."""
    found = _TIME.fullmatch(str(told))
    if found is None:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
