"""Every trainer that comes with ollamake keeps the contract that those of others are held to."""

from __future__ import annotations

import pytest

from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.port import trainer, trainer_names

RECIPES: dict[str, dict[str, object]] = {
    "command": {"command": ["./train.sh", "{text}", "{out}"]},
    "llama.cpp": {"learning_rate": 1e-5},  # not a LoRA's
}


@pytest.mark.parametrize("name", trainer_names())
def test_an_entry_point_has_the_name_of_its_trainer(name: str) -> None:
    assert trainer(name).name == name


@pytest.fixture(params=trainer_names(), autouse=True, scope="class")
def each(request: pytest.FixtureRequest) -> None:
    if request.cls is not None:
        request.cls.trainer, request.cls.recipe = trainer(request.param), RECIPES.get(request.param, {})


class TestEach(TrainerContract):
    pass
