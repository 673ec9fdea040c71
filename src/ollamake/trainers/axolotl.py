"""Axolotl, as a trainer: a config of its own is written from the recipe, and its program run where Axolotl is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ollamake.trainers.axolotl_keys import AXOLOTL, OWN
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
from ollamake.trainers.port import Command, Job, Objection
from ollamake.trainers.refused import refused

NEEDS = {"axolotl": "0.19", "torch": "2.6", "transformers": "5.0", "peft": "0.18", "trl": "1.0"}  # the oldest that were tried
CONFIG = "axolotl.yaml"
PLUGIN = "ollamake_axolotl"
ACCUMULATION = "gradient_accumulation_steps"


class AxolotlTrainer(HfTrainer):
    """Trains with Axolotl, on GPUs where there are some, else on the CPU."""

    name = "axolotl"
    needs = NEEDS
    wanted = "axolotl"

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """What Ollama can't serve, what the catalog has keys of its own for, and what would change what a batch is."""
        options = recipe.get("options", {})
        return (
            *integer_alpha(recipe, "Axolotl"),
            *(found for names in (AXOLOTL, OWN) for found in refused(options, names)),
            *batch_objections(recipe, ACCUMULATION),
        )

    def gpu_objections(self, recipe: Mapping[str, Any], gpus: int) -> tuple[Objection, ...]:
        """A batch that they can't share."""
        return shared_batch(recipe, gpus, ACCUMULATION)

    def plan(self, job: Job) -> Command:
        """Axolotl's own `train`, with a process for each GPU where there are several. It runs in the job's folder, where its plugin is found."""
        processes, _, _ = batches(job, ACCUMULATION)
        module: tuple[str, ...]
        if processes > 1:
            module = ("torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m", "axolotl.cli.train", CONFIG)
        else:
            module = ("axolotl.cli.main", "train", CONFIG, "--launcher", "python")
        text = yaml.safe_dump(config_of(job), sort_keys=False, allow_unicode=True)
        return Command(
            argv=job.environment.python("-m", *module),
            environment={**environment_of(job), "AXOLOTL_DO_NOT_TRACK": "1"},
            files={CONFIG: text, **carried(**{PLUGIN: "axolotl_plugin"})},
        )

    def collect(self, folder: Path) -> Path:
        """The adapter, taken from among the checkpoints."""
        return take_adapter(folder)


def config_of(job: Job) -> dict[str, Any]:
    """Axolotl's config: its keys for those of the recipe, what ollamake decides, and the catalog's `options` over what is left."""
    recipe = job.recipe
    options = dict(recipe.get("options", {}))
    plugins = options.pop("plugins", [])
    _, micro, accumulation = batches(job, ACCUMULATION)
    return {
        "base_model": str(job.base["path"]),
        "plugins": [f"{PLUGIN}.Job", *plugins],
        "adapter": "lora",
        "lora_r": recipe["rank"],
        "lora_alpha": int(recipe["alpha"]),
        "lora_dropout": 0.0,
        "lora_target_modules": list(recipe["target_modules"]),
        **({} if job.start is None else {"lora_model_dir": job.start.relative_to(job.folder).as_posix()}),
        "datasets": [{"path": EXAMPLES, "split": "train"}],
        "dataset_prepared_path": "work/prepared",
        "sequence_len": recipe["max_tokens"],
        "excess_length_strategy": "raise",
        "pad_to_sequence_len": False,
        "sample_packing": False,
        "num_epochs": recipe["epochs"],
        "max_steps": job.steps,  # Axolotl's own count takes the last batches of all epochs for one
        "micro_batch_size": micro,
        ACCUMULATION: accumulation,
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler": "linear",
        "warmup_ratio": WARMUP_SHARE,
        "optimizer": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "seed": recipe["seed"],
        "attn_implementation": "sdpa",
        **(_ON_GPU if job.gpus else _ON_CPU),
        "logging_steps": 1,
        "save_total_limit": 2,
        **_evaluated(job),
        "output_dir": "work",
        **({} if job.checkpoint is None else {"resume_from_checkpoint": job.checkpoint.relative_to(job.folder).as_posix()}),
        **options,
    }


_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")  # written for GPUs, and chosen by Axolotl wherever it can
_ON_CPU = {"bf16": False, "fp16": False, "tf32": False, **dict.fromkeys(_KERNELS, False)}
_ON_GPU = {"bf16": "auto", "tf32": "auto", "gradient_checkpointing": True}


def _evaluated(job: Job) -> dict[str, Any]:
    """When the holdout is read, and what comes of that. Axolotl keeps the best epoch only where checkpoints are written when it is read."""
    if job.holdout is None:
        return {"val_set_size": 0, "save_steps": save_steps(job)}
    keep, patience = job.recipe.get("keep", "last"), job.recipe.get("patience")
    if keep == "best":
        saved: dict[str, Any] = {"save_steps": epoch_steps(job), "load_best_model_at_end": True}
    elif patience is not None:  # Axolotl would take the best at the end, were these the same steps
        saved = {"save_strategy": "epoch", "load_best_model_at_end": False}
    else:
        saved = {"save_steps": save_steps(job), "load_best_model_at_end": False}
    return {
        "test_datasets": [{"path": EXAMPLES, "split": "validation"}],
        "val_set_size": 0,
        "eval_steps": epoch_steps(job),
        "eval_batch_size": batches(job, ACCUMULATION)[1],
        "metric_for_best_model": "eval_loss",
        **saved,
        **({} if patience is None else {"early_stopping_patience": patience}),
    }
