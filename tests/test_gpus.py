"""`train.resources: {gpu: N}`: who trains on several GPUs, and what a batch is then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Repo
from ollamake.trainers.contract import RECIPE, TrainerContract
from ollamake.trainers.port import trainer

SHARE = ["axolotl", "llamafactory", "trl"]


@pytest.mark.parametrize("name", SHARE)
@pytest.mark.parametrize(
    ("batch", "rounds", "gpus", "told"),
    [
        (8, 1, 8, None),
        (8, 2, 4, None),
        (7, 1, 1, None),
        (1, 1, 0, None),
        (6, 1, 4, "batch_size 6 can't be dealt out to 4 GPUs\nwrite `resources: {gpu: 3}`, or a batch_size that 4 divides"),
        (8, 2, 3, "batch_size 8 can't be dealt out to 3 GPUs in 2 rounds\nwrite `resources: {gpu: 2}`, or a batch_size that 6 divides"),
        (8, 3, 4, None),  # three rounds are objected to whatever the GPUs
        (8, "two", 4, None),
    ],
)
def test_a_batch_is_what_the_recipe_says_however_many_share_it(name: str, batch: int, rounds: object, gpus: int, told: str | None) -> None:
    options = {"gradient_accumulation_steps": rounds} if rounds != 1 else {}
    found = trainer(name).gpu_objections({**RECIPE, "batch_size": batch, "options": options}, gpus)
    assert [(objection.key, f"{objection.text}\n{objection.fix}") for objection in found] == ([("resources.gpu", told)] if told else [])


@pytest.mark.parametrize("name", ["peft", "unsloth"])
def test_one_gpu_is_all_that_some_can_use(name: str) -> None:
    assert trainer(name).gpu_objections(RECIPE, 1) == trainer(name).gpu_objections(RECIPE, 0) == ()
    (found,) = trainer(name).gpu_objections(RECIPE, 4)
    assert found.text == f"resources: trainer {name!r} trains on one GPU, and 4 are asked for"


@pytest.mark.parametrize("name", ["command", "llama.cpp"])
def test_others_are_given_what_is_asked_for(name: str) -> None:
    assert trainer(name).gpu_objections(RECIPE, 3) == ()


def test_it_is_said_at_its_line_before_anything_runs(repo: Repo) -> None:
    repo.replace("    data: [shared]\n", "    data: [shared]\n    train:\n      trainer: trl\n      resources: {gpu: 3}\n")
    repo.replace("    data: [shared, tone]\n", "    data: [shared, tone]\n    train: {trainer: peft, resources: {gpu: 2}}\n")
    result = repo.doit("plan")
    assert result.code == 3
    assert "models.yaml:15: model 'legal': batch_size 4 can't be dealt out to 3 GPUs\n  fix: write `resources: {gpu: 2}`, or " in result.err
    assert (
        "models.yaml:19: model 'sales': resources: trainer 'peft' trains on one GPU, and 2 are asked for\n  fix: write `resources: {gpu: 1}`"
        in result.err
    )


def test_a_command_is_told_how_many_it_has(tmp_path: Path) -> None:
    job = TrainerContract.job(_OfCommand(), tmp_path)
    words = [trainer("command").plan(replace(job, gpus=gpus)).argv for gpus in (0, 4)]
    assert words == [("accelerate", "launch", f"--num_processes={gpus}", "train.py") for gpus in (0, 4)]
    assert json.loads(json.dumps(replace(job, gpus=4).as_json()))["gpus"] == 4


class _OfCommand(TrainerContract):
    recipe = {"command": ["accelerate", "launch", "--num_processes={gpus}", "train.py"]}  # noqa: RUF012 - read alone
