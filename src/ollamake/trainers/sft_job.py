"""What the plans of TRL and Unsloth have in common: the recipe in the words of TRL's SFTConfig and peft's LoraConfig, and what a job carries. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ollamake
from ollamake.trainers.port import Command, Job, Objection
from ollamake.trainers.refused import PUBLISHES, Refusal, decided, instead

WARMUP_SHARE = 0.05  # of all steps: the learning rate rises to its value, then falls to nothing in a straight line
CHECKPOINTS = 10  # in a training
# What runs in the trainer's environment, where ollamake is not installed: these modules, as they are here.
CARRIED = (
    *("__init__", "errors", "spelling", "records/__init__", "records/chat_template", "trainers/__init__"),
    *("trainers/examples", "trainers/hf_progress", "trainers/native_options", "trainers/sft_run"),
)
_LEARNT = decided("which tokens are learnt: those of every answer, and no other")
_TEMPLATE = decided("how a chat is written: by the base's own template, with which it is served")
_BASE = decided("the base: that of the model's entry")
_DATA = decided("the records: those of the model's `data`")
_CHECKPOINTS = decided("when checkpoints are written and held out records read; train.keep and train.patience say what for")
NAMES: Mapping[str, Refusal] = {
    "learning_rate": instead("learning_rate"),
    "num_train_epochs": instead("epochs"),
    "max_steps": instead("epochs"),
    "gradient_accumulation_steps": instead("batch_size"),
    "auto_find_batch_size": instead("batch_size"),
    "max_length": instead("max_tokens"),
    "max_seq_length": instead("max_tokens"),
    "seed": instead("seed"),
    "data_seed": instead("seed"),
    "use_cpu": instead("resources.gpu"),
    "no_cuda": instead("resources.gpu"),
    "load_best_model_at_end": instead("keep"),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better", "eval_strategy", "eval_steps", "save_strategy", "save_only_model"), _CHECKPOINTS),
    **dict.fromkeys(("output_dir", "overwrite_output_dir", "run_name_dir"), decided("where checkpoints and the adapter are")),
    "resume_from_checkpoint": decided("what a training goes on from: its last whole checkpoint"),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss", "dataset_text_field", "dataset_kwargs", "remove_unused_columns"), _LEARNT),
    **dict.fromkeys(("truncation_mode", "label_names"), _LEARNT),
    **dict.fromkeys(("chat_template_path", "eos_token"), _TEMPLATE),
    **dict.fromkeys(("model_name_or_path", "model_name"), _BASE),
    **dict.fromkeys(("dataset_name", "dataset_config", "datasets", "dataset_train_split", "dataset_test_split"), _DATA),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_token"), PUBLISHES),
}


def batch_objections(recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
    """What can be said against the option that says how many records of a step a GPU reads at once."""
    size, at_once = recipe["batch_size"], recipe.get("options", {}).get("per_device_train_batch_size", 1)
    if isinstance(at_once, int) and at_once > 0 and size % at_once == 0:
        return ()
    key = "options.per_device_train_batch_size"
    return (Objection(key=key, text=f"{key}: {at_once!r} is no part of train.batch_size {size}", fix=f"write a number that divides {size}"),)


def sft_command(
    job: Job, script: str, *, lora: Mapping[str, Any], most_gpus: int | None = None, environment: Mapping[str, str] | None = None
) -> Command:
    """Python of the trainer's environment with this script of ours, on one GPU, on several or on the CPU."""
    gpus = _gpus(job, most_gpus)
    files = {f"ollamake/{name}.py": _module(name) for name in CARRIED}
    native = {"arguments": _arguments(job, gpus), "lora": dict(lora), "options": dict(job.recipe.get("options", {})), "save_every": _save_every(job)}
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}") if gpus > 1 else ()
    offline = {"HF_HUB_OFFLINE": "1"} if os.path.isabs(job.base["path"]) else {}
    return Command(
        argv=job.environment.python(*launcher, "train.py"),
        environment={
            "HF_DATASETS_CACHE": str(job.work / "datasets"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **offline,
            **(environment or {}),
        },
        files={**files, "train.py": _module(f"trainers/{script}"), "train.json": json.dumps(native, indent=2, sort_keys=True) + "\n"},
    )


def _module(name: str) -> str:
    # Packages are carried empty: what is in theirs is for a whole ollamake.
    return "" if name.endswith("__init__") else (Path(ollamake.__file__).parent / f"{name}.py").read_text(encoding="utf-8")


def _at_once(job: Job) -> int:
    return int(job.recipe.get("options", {}).get("per_device_train_batch_size", job.recipe["batch_size"]))


def _gpus(job: Job, most: int | None) -> int:
    """As many as there are, where a step's records can be divided among them."""
    size = int(job.recipe["batch_size"])
    parts = size // _at_once(job) if "per_device_train_batch_size" in job.recipe.get("options", {}) else size
    there = job.gpus if most is None else min(job.gpus, most)
    return max((count for count in range(1, there + 1) if parts % count == 0), default=0)


def _save_every(job: Job) -> int:
    return max(1, job.steps // CHECKPOINTS)


def _arguments(job: Job, gpus: int) -> dict[str, Any]:
    """SFTConfig's, as far as they are known before the trainer runs."""
    recipe, options = job.recipe, job.recipe.get("options", {})
    size, devices = int(recipe["batch_size"]), max(1, gpus)
    at_once = int(options.get("per_device_train_batch_size", size // devices))
    judged = job.holdout is not None and (recipe.get("keep") == "best" or bool(recipe.get("patience")))
    return {
        "output_dir": job.work.relative_to(job.folder).as_posix(),
        "num_train_epochs": recipe["epochs"],
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": int(job.steps * WARMUP_SHARE),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        "gradient_accumulation_steps": size // devices // at_once,
        "max_length": recipe["max_tokens"],
        "seed": recipe["seed"],
        "data_seed": recipe["seed"],
        "full_determinism": not gpus,  # on a GPU it costs time, and some attention
        "use_cpu": not gpus,
        "gradient_checkpointing": bool(gpus),
        "dataloader_pin_memory": bool(gpus),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is lost shall be seen
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps" if job.holdout is None else "epoch",  # the script adds steps to the latter
        "save_steps": _save_every(job),
        "save_total_limit": 2,
        "eval_strategy": "no" if job.holdout is None else "epoch",
        "dataset_kwargs": {"skip_prepare_dataset": not options.get("packing", False)},
        **({"metric_for_best_model": "eval_loss", "greater_is_better": False} if judged else {}),
        **({"load_best_model_at_end": True} if judged and recipe.get("keep") == "best" else {}),
        **({"restore_callback_states_from_checkpoint": True} if judged and recipe.get("patience") else {}),
    }
