"""What is written for LLaMA-Factory, what is refused before it starts, and what its log tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.environment import Environment
from ollamake.trainers.llamafactory import LlamaFactoryTrainer
from ollamake.trainers.port import Event, Job
from test_trainers_axolotl import FOLDER, JOB, RECIPE, with_recipe

CONFIG = """\
model_name_or_path: /cache/bases/b
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_alpha: 32
lora_dropout: 0.0
lora_target: q_proj,v_proj
dataset: text
tokenized_path: work/examples
template: empty
cutoff_len: 2048
num_train_epochs: 3
per_device_train_batch_size: 4
gradient_accumulation_steps: 1
learning_rate: 0.0002
lr_scheduler_type: linear
warmup_steps: 1
optim: adamw_torch
weight_decay: 0.0
max_grad_norm: 1.0
seed: 42
flash_attn: sdpa
use_cpu: true
bf16: false
fp16: false
disable_gradient_checkpointing: true
report_to: none
logging_steps: 1
save_total_limit: 2
save_strategy: steps
save_steps: 3
output_dir: work
"""


def config_of(job: Job) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(LlamaFactoryTrainer().plan(job).files["llamafactory.yaml"])
    return written


def test_the_plan_of_a_training_on_the_cpu() -> None:
    command = LlamaFactoryTrainer().plan(JOB)
    assert command.argv == ("/envs/axolotl/bin/python", "-m", "ollamake_llamafactory")
    assert command.environment["HF_HUB_OFFLINE"] == "1"
    assert "FORCE_TORCHRUN" not in command.environment
    assert command.files["llamafactory.yaml"] == CONFIG
    assert command.files["work/trainer_log.jsonl"] == ""  # what an earlier try has told is not told again
    assert {"ollamake_llamafactory.py", "ollamake/trainers/hf_examples.py"} < set(command.files)
    assert (command.follows, command.in_job) == ("work/trainer_log.jsonl", True)


def test_gpus_are_used_as_llamafactory_uses_them() -> None:
    job = replace(JOB, gpus=2)
    config = config_of(job)
    assert (config["bf16"], config["per_device_train_batch_size"]) == (True, 2)
    assert not {"use_cpu", "disable_gradient_checkpointing"} & set(config)
    environment = LlamaFactoryTrainer().plan(job).environment
    assert {key: environment[key] for key in ("FORCE_TORCHRUN", "NPROC_PER_NODE")} == {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}


EVALUATED = {
    "eval_dataset": "holdout",
    "eval_strategy": "steps",
    "eval_steps": 11,
    "per_device_eval_batch_size": 4,
    "metric_for_best_model": "eval_loss",
}
PATIENT = {"early_stopping_steps": 2, "restore_callback_states_from_checkpoint": True}


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ({}, {"save_strategy": "steps", "save_steps": 3, "load_best_model_at_end": False}),
        ({"keep": "best"}, {"save_strategy": "steps", "save_steps": 11, "load_best_model_at_end": True}),
        ({"keep": "best", "patience": 2}, {"save_strategy": "steps", "save_steps": 11, "load_best_model_at_end": True, **PATIENT}),
        ({"patience": 2}, {"save_strategy": "steps", "save_steps": 3, "load_best_model_at_end": False, **PATIENT}),
    ],
)
def test_the_holdout_is_read_after_each_epoch(recipe: dict[str, Any], more: dict[str, Any]) -> None:
    plain, config = config_of(JOB), config_of(with_recipe(replace(JOB, holdout=FOLDER / "holdout.jsonl"), **recipe))
    assert {key: value for key, value in config.items() if key not in plain or key.startswith("save_s")} == {**EVALUATED, **more}


def test_it_begins_with_an_adapter_and_goes_on_from_a_checkpoint() -> None:
    config = config_of(replace(JOB, start=FOLDER / "start", checkpoint=FOLDER / "work/checkpoint-8"))
    assert (config["adapter_name_or_path"], config["resume_from_checkpoint"]) == ("start", "work/checkpoint-8")


STEP = (
    '{"current_steps": 2, "total_steps": 6, "loss": 4.5, "lr": 0.001, "epoch": 0.67, "percentage": 33.33,'
    ' "elapsed_time": "0:00:10", "remaining_time": "1 day, 0:00:20"}'
)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (STEP, Event(kind="step", step=2, steps=6, epoch=0.67, loss=4.5, learning_rate=0.001, seconds_left=86420.0)),
        (
            '{"current_steps": 3, "total_steps": 6, "eval_loss": 3.45, "epoch": 1.0, "percentage": 50.0}',
            Event(kind="evaluation", step=3, steps=6, epoch=1.0, loss=3.45),
        ),
        ('{"event": "start", "steps": 6, "examples": 10, "tokens": 954}', Event(kind="start", steps=6, examples=10, tokens=954)),
        ('{"current_steps": 6, "total_steps": 6, "epoch": 2.0, "percentage": 100.0}', None),  # the end of its log
        ('{"current_steps": "6", "total_steps": 6, "loss": 1.0}', None),
        ('{"current_steps": 6, "total_steps": 6, "loss": NaN, "remaining_time": "soon"}', None),
        ("[1]", None),
        ("{'loss': '4.5'}", None),
    ],
)
def test_what_a_line_tells(line: str, event: Event | None) -> None:
    assert LlamaFactoryTrainer().progress(line) == event


@pytest.mark.parametrize(
    ("options", "said", "policy"),
    [
        ({"quantization_bit": 4}, "options.quantization_bit: 4: trained on a base in 4 or 8 bits (QLoRA), ", "qlora"),
        ({"use_dora": True}, "options.use_dora: true: DoRA ", None),
        ({"additional_target": "lm_head"}, "options.additional_target: 'lm_head': layers that are trained whole ", None),
        ({"pissa_init": True}, "options.pissa_init: true: this start changes the base's own weights", None),
        ({"finetuning_type": "full"}, "options.finetuning_type: 'full': this makes no LoRA that Ollama can serve", None),
        ({"stage": "dpo"}, "options.stage: 'dpo': this is another training than that of chats", None),
        ({"template": "qwen"}, "options.template: 'qwen': ollamake decides how it is trained: ", None),
        ({"lora_rank": 8}, "options.lora_rank: 8: the catalog says this as train.rank", None),
        ({"packing": True}, "options.packing: true: packing puts several records into one: ", None),
    ],
)
def test_what_can_not_be_said_is_refused(options: dict[str, Any], said: str, policy: str | None) -> None:
    (found,) = LlamaFactoryTrainer().objections({**RECIPE, "options": options})
    assert (found.key, found.text[: len(said)], found.policy) == (f"options.{next(iter(options))}", said, policy)


def test_a_recipe_without_faults_is_taken() -> None:
    options = {"finetuning_type": "lora", "stage": "sft", "loraplus_lr_ratio": 16.0, "use_rslora": True, "packing": False}
    assert LlamaFactoryTrainer().objections({**RECIPE, "options": options}) == ()


def test_what_to_type_where_it_is_not_installed(tmp_path: Path) -> None:
    folder = tmp_path / "no"
    assert LlamaFactoryTrainer().missing(Environment(str(folder))) == f"python3 -m venv {folder} && {folder}/bin/pip install llamafactory"


class TestContract(TrainerContract):
    trainer = LlamaFactoryTrainer()
