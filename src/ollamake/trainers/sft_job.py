"""What the plans of TRL and Unsloth have in common: the recipe in the words of TRL's SFTConfig and peft's LoraConfig, and what is refused. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ollamake.trainers.carried import carried
from ollamake.trainers.hf_job import WARMUP_SHARE, batches, environment_of, save_steps
from ollamake.trainers.port import Command, Job
from ollamake.trainers.refused import PUBLISHES, Refusal, decided, instead

ACCUMULATION = "gradient_accumulation_steps"
_LEARNT = decided("which tokens are learnt: those of every answer, and no other")
_TEMPLATE = decided("how a chat is written: by the base's own template, with which it is served")
_BASE = decided("the base: that of the model's entry")
_DATA = decided("the records: those of the model's `data`")
_BATCH = decided("what a step reads: batch_size records, and all records in each epoch")
_CHECKPOINTS = decided("when checkpoints are written and held out records read; train.keep and train.patience say what for")
NAMES: Mapping[str, Refusal] = {
    "learning_rate": instead("learning_rate"),
    "num_train_epochs": instead("epochs"),
    "max_steps": instead("epochs"),
    "per_device_train_batch_size": instead("batch_size"),
    "auto_find_batch_size": instead("batch_size"),
    **dict.fromkeys(("packing", "eval_packing", "padding_free", "dataloader_drop_last"), _BATCH),
    "max_length": instead("max_tokens"),
    "max_seq_length": instead("max_tokens"),
    "seed": instead("seed"),
    "data_seed": instead("seed"),
    "use_cpu": instead("resources.gpu"),
    "no_cuda": instead("resources.gpu"),
    "load_best_model_at_end": instead("keep"),
    **dict.fromkeys(("metric_for_best_model", "greater_is_better", "eval_strategy", "eval_steps", "save_strategy", "save_only_model"), _CHECKPOINTS),
    **dict.fromkeys(("output_dir", "overwrite_output_dir"), decided("where checkpoints and the adapter are")),
    "resume_from_checkpoint": decided("what a training goes on from: its last whole checkpoint"),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss", "dataset_text_field", "dataset_kwargs", "remove_unused_columns"), _LEARNT),
    **dict.fromkeys(("truncation_mode", "label_names"), _LEARNT),
    **dict.fromkeys(("chat_template_path", "eos_token"), _TEMPLATE),
    **dict.fromkeys(("model_name_or_path", "model_name"), _BASE),
    **dict.fromkeys(("dataset_name", "dataset_config", "datasets", "dataset_train_split", "dataset_test_split"), _DATA),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_strategy", "hub_token"), PUBLISHES),
}


def sft_command(job: Job, script: str, environment: Mapping[str, str]) -> Command:
    """Python of the trainer's environment with this script of ours, a process for each GPU. Raises BuildError where these can't share a batch."""
    processes, _, _ = batches(job, ACCUMULATION)
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}") if processes > 1 else ()
    native = {
        "arguments": _arguments(job),
        "lora": {
            "r": job.recipe["rank"],
            "lora_alpha": job.recipe["alpha"],
            "lora_dropout": 0.0,
            "target_modules": list(job.recipe["target_modules"]),
        },
        "options": dict(job.recipe.get("options", {})),
        "save_every": save_steps(job),
    }
    return Command(
        argv=job.environment.python(*launcher, "train.py"),
        environment={**environment_of(job), **environment},
        files={**carried("trainers/sft_run", train=script), "train.json": json.dumps(native, indent=2, sort_keys=True) + "\n"},
    )


def _arguments(job: Job) -> dict[str, Any]:
    """SFTConfig's, as far as they are known before the trainer runs."""
    recipe = job.recipe
    processes, at_once, rounds = batches(job, ACCUMULATION)
    judged = job.holdout is not None and (recipe.get("keep") == "best" or bool(recipe.get("patience")))
    return {
        "output_dir": job.work.relative_to(job.folder).as_posix(),
        "num_train_epochs": recipe["epochs"],
        "learning_rate": recipe["learning_rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": int(job.steps * WARMUP_SHARE),
        "per_device_train_batch_size": at_once,
        "per_device_eval_batch_size": at_once,
        ACCUMULATION: rounds,
        "max_length": recipe["max_tokens"],
        "seed": recipe["seed"],
        "data_seed": recipe["seed"],
        "full_determinism": not job.gpus,  # on a GPU it costs time, and some attention
        "use_cpu": not job.gpus,
        "gradient_checkpointing": bool(job.gpus),
        "dataloader_pin_memory": bool(job.gpus),
        **({"ddp_find_unused_parameters": False} if processes > 1 else {}),  # a LoRA's are all used
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is lost shall be seen
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "steps" if job.holdout is None else "epoch",  # the script adds steps to the latter
        "save_steps": save_steps(job),
        "save_total_limit": 2,
        "eval_strategy": "no" if job.holdout is None else "epoch",
        "dataset_kwargs": {"skip_prepare_dataset": True},  # it is tokens and labels
        **({"metric_for_best_model": "eval_loss", "greater_is_better": False} if judged else {}),
        **({"load_best_model_at_end": True} if judged and recipe.get("keep") == "best" else {}),
        **({"restore_callback_states_from_checkpoint": True} if judged and recipe.get("patience") else {}),
    }
