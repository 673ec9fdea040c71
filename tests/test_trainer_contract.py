"""Every trainer that comes with ollamake keeps the contract that those of others are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.installed import TrainerNames
from ollamake.trainers.port import trainer

RECIPES: dict[str, dict[str, object]] = {
    "command": {"command": ["./train.sh", "{text}", "{out}"]},
    "llama.cpp": {"learning_rate": 1e-5},  # not a LoRA's
}


@pytest.mark.parametrize("name", TrainerNames())
def test_an_entry_point_has_the_name_of_its_trainer(name: str) -> None:
    assert trainer(name).name == name


@pytest.fixture(params=TrainerNames(), scope="class")
def each(request: pytest.FixtureRequest) -> None:
    request.cls.trainer, request.cls.recipe = trainer(request.param), RECIPES.get(request.param, {})


@pytest.mark.usefixtures("each")
class TestEach(TrainerContract):
    pass


def row(name: str) -> str:
    """A trainer's row in the table of docs/trainers/README.md."""
    can = trainer(name).capabilities
    page = "write-one.md" if name == "command" else f"{name}.md"
    reads = {"gguf": "the GGUF", "hf": "a folder for transformers", "float-gguf": "the GGUF in float32"}[can.reads_base]
    flags = (can.resumes, can.evaluates, can.starts_from_adapter, can.deterministic, can.needs_gpu)
    return f"| [{name}]({page}) | {'adapter' if can.makes == 'adapter' else 'whole weights'} | {reads} | {' | '.join('yes' if flag else 'no' for flag in flags)} |"


def test_the_docs_say_what_each_trainer_can_do() -> None:
    docs = Path(__file__).parent.parent / "docs/trainers"
    text = (docs / "README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("| [")] == [row(name) for name in TrainerNames()]
    assert [name for name in TrainerNames() if name != "command" and not (docs / f"{name}.md").exists()] == []
