"""What is written for TRL and for Unsloth, and what is refused before they start."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamake.errors import BuildError
from ollamake.trainers import contract
from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Event, Job, Trainer
from ollamake.trainers.trl import TrlTrainer
from ollamake.trainers.unsloth import UnslothTrainer

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
    env="/envs/one",
)
ARGUMENTS = {
    "data_seed": 42,
    "dataloader_pin_memory": False,
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "disable_tqdm": True,
    "eval_strategy": "no",
    "full_determinism": True,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "learning_rate": 2e-4,
    "logging_nan_inf_filter": False,
    "logging_steps": 1,
    "lr_scheduler_type": "linear",
    "max_length": 2048,
    "num_train_epochs": 3,
    "output_dir": "work",
    "per_device_eval_batch_size": 4,
    "per_device_train_batch_size": 4,
    "report_to": "none",
    "save_steps": 3,
    "save_strategy": "steps",
    "save_total_limit": 2,
    "seed": 42,
    "use_cpu": True,
    "warmup_steps": 1,
}
LORA = {"lora_alpha": 32.0, "lora_dropout": 0.0, "r": 16, "target_modules": ["q_proj", "v_proj"]}
ON_CPU = {
    "ACCELERATE_USE_CPU": "true",
    "CUDA_VISIBLE_DEVICES": "",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_CACHE": "/jobs/one/work/datasets",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GOMP_SPINCOUNT": "1000",
    "TOKENIZERS_PARALLELISM": "false",
}
CARRIED = [
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
    "ollamake/trainers/sft_run.py",
    "train.json",
    "train.py",
]
BOTH = pytest.mark.parametrize("trainer", [TrlTrainer(), UnslothTrainer()], ids=lambda trainer: trainer.name)


class TestTrlKeepsTheContract(TrainerContract):
    trainer = TrlTrainer()
    recipe = {"options": {"lora_dropout": 0.1, "weight_decay": 0.01}}  # noqa: RUF012 - read alone


class TestUnslothKeepsTheContract(TrainerContract):
    trainer = UnslothTrainer()
    recipe = {"options": {"lora_dropout": 0.1, "load_in_4bit": False}}  # noqa: RUF012 - read alone


def native(trainer: Trainer, job: Job) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(trainer.plan(job).files["train.json"])
    return written


def changed(trainer: Trainer, job: Job) -> dict[str, Any]:
    """What of SFTConfig's arguments is other than in the plain job."""
    found = native(trainer, job)["arguments"]
    assert set(ARGUMENTS) <= set(found)
    return {key: value for key, value in found.items() if key not in ARGUMENTS or ARGUMENTS[key] != value}


def with_recipe(job: Job = JOB, **recipe: Any) -> Job:
    return replace(job, recipe={**RECIPE, **recipe})


@BOTH
def test_the_plan_of_a_training_on_the_cpu(trainer: Trainer) -> None:
    command = trainer.plan(JOB)
    own = {"UNSLOTH_COMPILE_LOCATION": "/jobs/one/work/compiled", "UNSLOTH_DISABLE_STATISTICS": "1", "UNSLOTH_FORCE_CPU": "1"}
    assert command.argv == ("/envs/one/bin/python", "train.py")
    assert command.environment == {**ON_CPU, **(own if trainer.name == "unsloth" else {})}
    assert sorted(command.files) == CARRIED
    assert json.loads(command.files["train.json"]) == {"arguments": ARGUMENTS, "lora": LORA, "options": {}, "save_every": 3}
    assert (command.follows, command.in_job) == (None, True)


@BOTH
def test_what_is_carried_imports_nothing_of_ollamake_that_is_not(trainer: Trainer) -> None:
    files = trainer.plan(JOB).files
    wanted = set()
    for name, text in files.items():
        if name.endswith(".py"):
            nodes = ast.walk(ast.parse(text))
            wanted |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ollamake")}
    assert {f"{module.replace('.', '/')}.py" for module in wanted} <= set(files)
    assert len(wanted) > 5


def test_several_gpus_share_a_batch() -> None:
    job = with_recipe(replace(JOB, gpus=2), batch_size=8, options={"gradient_accumulation_steps": 2})
    command = TrlTrainer().plan(job)
    assert command.argv == ("/envs/one/bin/python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py")
    assert not {"CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"} & set(command.environment)
    found = native(TrlTrainer(), job)["arguments"]
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (2, 2)
    assert found["ddp_find_unused_parameters"] is False
    with pytest.raises(
        BuildError, match=r"^batch_size 4 can't be dealt out to 3 GPUs\n  fix: write `resources: \{gpu: 2\}`, or a batch_size that 3 divides$"
    ):
        TrlTrainer().plan(replace(JOB, gpus=3))


def test_unsloth_takes_one_gpu() -> None:
    command = UnslothTrainer().plan(replace(JOB, gpus=3))
    assert command.argv == ("/envs/one/bin/python", "train.py")
    assert "UNSLOTH_FORCE_CPU" not in command.environment


@BOTH
def test_a_gpu_trains_with_checkpointing(trainer: Trainer) -> None:
    on_gpu = {"dataloader_pin_memory": True, "full_determinism": False, "gradient_checkpointing": True, "use_cpu": False}
    assert changed(trainer, replace(JOB, gpus=1)) == on_gpu


@BOTH
def test_what_is_held_out_is_read_each_epoch(trainer: Trainer) -> None:
    job = replace(JOB, holdout=FOLDER / "holdout.jsonl")
    each = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    judged = {**each, "metric_for_best_model": "eval_loss", "greater_is_better": False}
    assert changed(trainer, job) == each
    assert changed(trainer, with_recipe(job, keep="best")) == {**judged, "load_best_model_at_end": True}
    assert changed(trainer, with_recipe(job, patience=2)) == {**judged, "restore_callback_states_from_checkpoint": True}


@BOTH
def test_a_long_training_has_ten_checkpoints_and_a_short_one_no_warm_up(trainer: Trainer) -> None:
    assert changed(trainer, replace(JOB, records=4000)) == {"save_steps": 300, "warmup_steps": 150}
    assert changed(trainer, replace(JOB, records=8)) == {"save_steps": 1, "warmup_steps": 0}


@BOTH
def test_a_base_of_a_hub_may_be_fetched(trainer: Trainer) -> None:
    assert "HF_HUB_OFFLINE" not in trainer.plan(replace(JOB, base={**JOB.base, "path": "owner/name", "hf": "owner/name"})).environment


@BOTH
def test_options_go_to_the_trainer_as_they_are(trainer: Trainer) -> None:
    options = {"weight_decay": 0.1, "neftune_noise_alpha": 5}
    job = with_recipe(options=options)
    assert native(trainer, job)["options"] == options
    assert changed(trainer, job) == {}


def objected(trainer: Trainer, **options: Any) -> list[tuple[str, str | None]]:
    return [(found.key, found.policy) for found in trainer.objections({**RECIPE, "options": options})]


@BOTH
@pytest.mark.parametrize("key", ["load_in_4bit", "load_in_8bit"])
def test_a_quantized_base_is_a_matter_of_policy(trainer: Trainer, key: str) -> None:
    assert objected(trainer, **{key: True}) == [(f"options.{key}", "qlora")]
    assert objected(trainer, **{key: False}) == []


TRL = {
    "use_dora": True,
    "lora_modules_to_save": ["lm_head"],
    "lora_target_parameters": ["experts.w1"],
    "use_peft": False,
    "lora_task_type": "SEQ_CLS",
    "lora_r": 8,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj"],
}
UNSLOTH = {
    "use_dora": True,
    "modules_to_save": ["lm_head"],
    "bias": "all",
    "init_lora_weights": "pissa",
    "loftq_config": {"loftq_bits": 4},
    "target_parameters": ["experts.w1"],
    "resize_model_vocab": 100,
    "full_finetuning": True,
    "r": 8,
    "target_modules": ["q_proj"],
    "random_state": 1,
    "max_seq_length": 100,
    "fast_inference": True,
}
OF_BOTH = {
    "learning_rate": 1e-3,
    "num_train_epochs": 1,
    "max_steps": 10,
    "per_device_train_batch_size": 1,
    "max_length": 100,
    "seed": 0,
    "use_cpu": False,
    "output_dir": "x",
    "resume_from_checkpoint": "x",
    "assistant_only_loss": False,
    "chat_template_path": "x",
    "model_name_or_path": "x",
    "dataset_name": "x",
    "load_best_model_at_end": True,
    "save_strategy": "epoch",
    "packing": True,
    "push_to_hub": True,
}


@pytest.mark.parametrize(
    ("trainer", "key", "value"),
    [
        *((TrlTrainer(), key, value) for key, value in {**TRL, **OF_BOTH}.items()),
        *((UnslothTrainer(), key, value) for key, value in {**UNSLOTH, **OF_BOTH}.items()),
    ],
    ids=lambda value: value.name if isinstance(value, (TrlTrainer, UnslothTrainer)) else str(value),
)
def test_what_can_not_be_served_and_what_is_decided_elsewhere_is_refused(trainer: Trainer, key: str, value: Any) -> None:
    assert objected(trainer, **{key: value}) == [(f"options.{key}", None)]


def test_a_key_that_the_catalog_has_is_named() -> None:
    (found,) = TrlTrainer().objections({**RECIPE, "options": {"lora_r": 8}})
    assert (found.text, found.fix) == (
        "options.lora_r: 8: the catalog says this as train.rank",
        "write train.rank, and remove 'lora_r' from train.options",
    )


def test_a_quantized_base_is_found_in_what_the_base_is_loaded_with() -> None:
    assert objected(TrlTrainer(), model_init_kwargs={"quantization_config": {"load_in_4bit": True}, "attn_implementation": "eager"}) == [
        ("options.model_init_kwargs.quantization_config", "qlora")
    ]


@BOTH
def test_rounds_that_do_not_make_up_a_batch_are_refused(trainer: Trainer) -> None:
    assert objected(trainer, gradient_accumulation_steps=3) == [("options.gradient_accumulation_steps", None)]
    assert objected(trainer, gradient_accumulation_steps=2) == []


def venv(folder: Path, **packages: str) -> Environment:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").touch()
    for name, version in packages.items():
        info = folder / f"lib/python3.12/site-packages/{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return Environment(str(folder))


def test_what_is_missing_or_too_old_is_installed_by_one_command(tmp_path: Path) -> None:
    trl = TrlTrainer()
    there = {"torch": "2.13.0", "transformers": "5.24.0", "peft": "0.21.2", "trl": "1.16.0"}
    whole = venv(tmp_path / "whole", **there)
    assert (trl.missing(whole), trl.versions(whole)) == (None, there)
    old = venv(tmp_path / "old", **{**there, "trl": "1.9.3"})
    assert trl.missing(old) == f"{tmp_path}/old/bin/pip install 'trl[peft]>=1.15'"
    assert trl.missing(Environment("no/venv")) == "python3 -m venv no/venv && no/venv/bin/pip install 'trl[peft]>=1.15'"
    assert UnslothTrainer().missing(whole) == f"{tmp_path}/whole/bin/pip install 'unsloth>=2026.10'"
    assert UnslothTrainer().missing(venv(tmp_path / "u", **{**there, "unsloth": "2026.10.9", "unsloth_zoo": "2026.10.9"})) is None


@BOTH
def test_a_step_is_told(trainer: Trainer) -> None:
    line = (
        '{"event": "step", "step": 2, "steps": 6, "epoch": 0.5, "loss": 4.7, "learning_rate": 0.001, "tokens_per_second": 17.2, "seconds_left": 36.7}'
    )
    assert trainer.progress(line) == Event(
        kind="step", step=2, steps=6, epoch=0.5, loss=4.7, learning_rate=0.001, tokens_per_second=17.2, seconds_left=36.7
    )
    assert trainer.progress("{'loss': '4.769', 'epoch': '0.6667'}") is None


@BOTH
def test_a_training_without_an_adapter_has_no_result(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/adapter_config.json").touch()
    with pytest.raises(
        BuildError,
        match=r"^the training has left no adapter: adapter_model.safetensors is not in its `out`\n  fix: read the training's log; then run `doit` again$",
    ):
        trainer.collect(tmp_path)
    (tmp_path / "out/adapter_model.safetensors").touch()
    assert trainer.collect(tmp_path) == tmp_path / "out"
