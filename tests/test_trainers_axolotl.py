"""What is written for Axolotl, what is refused before it starts, and what is taken from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollamake.errors import BuildError
from ollamake.trainers import contract
from ollamake.trainers.axolotl import AxolotlTrainer
from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Job

FOLDER = Path("/jobs/one")
RECIPE: dict[str, Any] = {**contract.RECIPE, "target_modules": ["q_proj", "v_proj"]}
JOB = Job(
    name="m",
    folder=FOLDER,
    text=FOLDER / "text.jsonl",
    records=41,
    base={"gguf": "/bases/b.gguf", "digest": "sha256:0", "path": "/cache/bases/b"},
    recipe=RECIPE,
    cache=Path("/cache"),
    env="/envs/axolotl",
)
CONFIG = """\
base_model: /cache/bases/b
plugins:
- ollamake_axolotl.Job
adapter: lora
lora_r: 16
lora_alpha: 32
lora_dropout: 0.0
lora_target_modules:
- q_proj
- v_proj
datasets:
- path: work/examples
  split: train
dataset_prepared_path: work/prepared
sequence_len: 2048
excess_length_strategy: raise
pad_to_sequence_len: false
sample_packing: false
num_epochs: 3
max_steps: 33
micro_batch_size: 4
gradient_accumulation_steps: 1
learning_rate: 0.0002
lr_scheduler: linear
warmup_ratio: 0.05
optimizer: adamw_torch
weight_decay: 0.0
max_grad_norm: 1.0
seed: 42
attn_implementation: sdpa
bf16: false
fp16: false
tf32: false
lora_mlp_kernel: false
lora_qkv_kernel: false
lora_o_kernel: false
lora_embedding_kernel: false
logging_steps: 1
save_total_limit: 2
val_set_size: 0
save_steps: 3
output_dir: work
"""


def config_of(job: Job) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(AxolotlTrainer().plan(job).files["axolotl.yaml"])
    return written


def with_recipe(job: Job = JOB, **recipe: Any) -> Job:
    return replace(job, recipe={**RECIPE, **recipe})


def test_the_plan_of_a_training_on_the_cpu() -> None:
    command = AxolotlTrainer().plan(JOB)
    assert command.argv == ("/envs/axolotl/bin/python", "-m", "axolotl.cli.main", "train", "axolotl.yaml", "--launcher", "python")
    assert command.environment == {
        "AXOLOTL_DO_NOT_TRACK": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "DO_NOT_TRACK": "1",
        "HF_DATASETS_CACHE": "/jobs/one/work/datasets",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "GOMP_SPINCOUNT": "1000",
        "TOKENIZERS_PARALLELISM": "false",
    }
    assert command.files["axolotl.yaml"] == CONFIG
    assert sorted(set(command.files) - {"axolotl.yaml"}) == [
        "ollamake/__init__.py",
        "ollamake/errors.py",
        "ollamake/records/__init__.py",
        "ollamake/records/chat_template.py",
        "ollamake/spelling.py",
        "ollamake/trainers/__init__.py",
        "ollamake/trainers/adapter_folder.py",
        "ollamake/trainers/examples.py",
        "ollamake/trainers/hf_ended.py",
        "ollamake/trainers/hf_examples.py",
        "ollamake/trainers/hf_gpus.py",
        "ollamake/trainers/hf_progress.py",
        "ollamake/trainers/native_options.py",
        "ollamake_axolotl.py",
    ]
    assert (command.follows, command.in_job) == (None, True)


def test_a_base_of_a_hub_may_be_fetched() -> None:
    job = replace(JOB, base={**JOB.base, "path": "owner/name", "hf": "owner/name"})
    assert "HF_HUB_OFFLINE" not in AxolotlTrainer().plan(job).environment


def test_a_gpu_is_used_as_axolotl_uses_one() -> None:
    job = replace(JOB, gpus=1)
    config = config_of(job)
    assert {key: config[key] for key in ("bf16", "tf32", "gradient_checkpointing")} == {
        "bf16": "auto",
        "tf32": "auto",
        "gradient_checkpointing": True,
    }
    assert "lora_mlp_kernel" not in config
    assert not {"CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"} & set(AxolotlTrainer().plan(job).environment)


def test_a_batch_is_dealt_out_to_the_gpus_and_its_rounds() -> None:
    job = with_recipe(replace(JOB, gpus=2), batch_size=8, options={"gradient_accumulation_steps": 2})
    assert AxolotlTrainer().plan(job).argv[1:] == (
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "axolotl.cli.train", "axolotl.yaml"),
    )
    config = config_of(job)
    assert (config["micro_batch_size"], config["gradient_accumulation_steps"], config["max_steps"]) == (2, 2, 18)


def test_a_batch_that_can_not_be_dealt_out_is_refused() -> None:
    with pytest.raises(BuildError) as raised:
        AxolotlTrainer().plan(replace(JOB, gpus=3))
    assert str(raised.value) == "batch_size 4 can't be dealt out to 3 GPUs\n  fix: write `resources: {gpu: 2}`, or a batch_size that 3 divides"


def test_options_are_axolotls_own_keys() -> None:
    config = config_of(
        with_recipe(options={"lr_scheduler": "cosine", "neftune_noise_alpha": 5, "plugins": ["axolotl.integrations.liger.LigerPlugin"]})
    )
    assert (config["lr_scheduler"], config["neftune_noise_alpha"]) == ("cosine", 5)
    assert config["plugins"] == ["ollamake_axolotl.Job", "axolotl.integrations.liger.LigerPlugin"]


EVALUATED = {
    "test_datasets": [{"path": "work/examples", "split": "validation"}],
    "val_set_size": 0,
    "eval_steps": 11,
    "eval_batch_size": 4,
    "metric_for_best_model": "eval_loss",
}


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ({}, {"save_steps": 3, "load_best_model_at_end": False}),
        ({"keep": "best"}, {"save_steps": 11, "load_best_model_at_end": True}),
        ({"keep": "best", "patience": 2}, {"save_steps": 11, "load_best_model_at_end": True, "early_stopping_patience": 2}),
        ({"patience": 2}, {"save_strategy": "epoch", "load_best_model_at_end": False, "early_stopping_patience": 2}),
    ],
)
def test_the_holdout_is_read_after_each_epoch(recipe: dict[str, Any], more: dict[str, Any]) -> None:
    plain, config = config_of(JOB), config_of(with_recipe(replace(JOB, holdout=FOLDER / "holdout.jsonl"), **recipe))
    assert {key: value for key, value in config.items() if key not in plain or key in {"val_set_size", "save_steps"}} == {**EVALUATED, **more}


def test_it_begins_with_an_adapter_and_goes_on_from_a_checkpoint() -> None:
    config = config_of(replace(JOB, start=FOLDER / "start", checkpoint=FOLDER / "work/checkpoint-8"))
    assert (config["lora_model_dir"], config["resume_from_checkpoint"]) == ("start", "work/checkpoint-8")


@pytest.mark.parametrize(
    ("options", "said", "fix", "policy"),
    [
        ({"lora_r": 8}, "options.lora_r: 8: the catalog says this as train.rank", "write train.rank, and remove 'lora_r' from train.options", None),
        (
            {"datasets": []},
            "options.datasets: []: ollamake decides what is trained on: the model's data",
            "remove 'datasets' from the model's train.options",
            None,
        ),
        (
            {"adapter": "llama-adapter"},
            "options.adapter: 'llama-adapter': this makes no LoRA that Ollama can serve",
            "remove 'adapter': it is 'lora'",
            None,
        ),
        ({"adapter": "None"}, "options.adapter: 'None': this makes no LoRA that Ollama can serve", "remove 'adapter': it is 'lora'", None),
        (
            {"gradient_accumulation_steps": 3},
            "options.gradient_accumulation_steps: 3 does not divide batch_size 4, and a step reads batch_size records",
            "write a number that divides train.batch_size",
            None,
        ),
    ],
)
def test_what_is_said_elsewhere_is_refused(options: dict[str, Any], said: str, fix: str, policy: str | None) -> None:
    (found,) = AxolotlTrainer().objections({**RECIPE, "options": options})
    assert (found.key, found.text, found.fix, found.policy) == (f"options.{next(iter(options))}", said, fix, policy)


def test_qlora_is_a_matter_of_policy() -> None:
    found = AxolotlTrainer().objections({**RECIPE, "options": {"adapter": "qlora", "load_in_4bit": True}})
    assert {(one.key, one.policy) for one in found} == {("options.adapter", "qlora"), ("options.load_in_4bit", "qlora")}


@pytest.mark.parametrize(
    "options",
    [
        {"peft_use_dora": True},
        {"lora_modules_to_save": ["embed_tokens"]},
        {"unfrozen_parameters": ["lm_head"]},
        {"lora_target_linear": True},
        {"peft_init_lora_weights": "pissa"},
        {"peft": {"loftq_config": {"loftq_bits": 4}}},
        {"sample_packing": True},
        {"hub_model_id": "a/b"},
    ],
)
def test_what_ollama_can_not_serve_is_refused(options: dict[str, Any]) -> None:
    (found,) = AxolotlTrainer().objections({**RECIPE, "options": options})
    assert found.policy is None


def test_a_recipe_without_faults_is_taken() -> None:
    assert AxolotlTrainer().objections({**RECIPE, "options": {"lora_dropout": 0.05, "sample_packing": False, "peft_use_rslora": True}}) == ()


def test_an_alpha_that_is_no_whole_number_is_refused() -> None:
    (found,) = AxolotlTrainer().objections({**RECIPE, "alpha": 12.5})
    assert (found.key, found.text, found.fix) == ("alpha", "alpha: 12.5: Axolotl takes whole numbers alone", "write 12")


def test_what_to_type_where_it_is_not_installed(tmp_path: Path) -> None:
    assert AxolotlTrainer().missing(Environment(str(tmp_path / "no"))) == f"python3 -m venv {tmp_path}/no && {tmp_path}/no/bin/pip install axolotl"


def test_the_adapter_is_taken_from_among_the_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "job.json").write_text('{"base": {"gguf": "/bases/b.gguf"}}', encoding="utf-8")
    (tmp_path / "work/adapter_config.json").write_text(
        '{"target_modules": ["v_proj", "q_proj"], "base_model_name_or_path": "/cache/b"}', encoding="utf-8"
    )
    with pytest.raises(BuildError, match="the training has left no adapter"):
        AxolotlTrainer().collect(tmp_path)
    (tmp_path / "work/adapter_model.safetensors").write_bytes(b"weights")
    found = AxolotlTrainer().collect(tmp_path)
    assert found == tmp_path / "out"
    assert (found / "adapter_model.safetensors").read_bytes() == b"weights"
    assert (found / "adapter_config.json").read_text(encoding="utf-8") == (
        '{\n  "base_model_name_or_path": "b.gguf",\n  "target_modules": [\n    "q_proj",\n    "v_proj"\n  ]\n}\n'
    )


class TestContract(TrainerContract):
    trainer = AxolotlTrainer()
