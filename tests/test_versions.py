"""`doit rollback`, `history`, `prune` and `diff`: the versions of a model, before a server that counts what is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Repo


def latest(repo: Repo, tag: str = "latest") -> str:
    return repo.server.digest(f"legal:{tag}")


def edit(repo: Repo, number: int, text: str) -> None:
    """Another version of legal's data."""
    repo.replace(f"Answer {number}.", text, "datasets/shared.jsonl")


@pytest.fixture
def two(built: Repo) -> Repo:
    """A repo with two versions of its models."""
    edit(built, 3, "A bad answer.")
    assert built.doit().code == 0
    return built


def test_a_model_is_rolled_back_and_stays_so(two: Repo) -> None:
    good, bad, trainings = latest(two, "previous"), latest(two), list(two.trainings)
    result = two.doit("rollback", "legal", "--because", "it makes things up")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        f"legal:latest on http://{two.server.host} is {good[:12]} again, and {bad[:12]} is legal:previous\n"
        "so it stays until its data, its recipe or its tests change\n"
    )
    assert (latest(two), latest(two, "previous")) == (good, bad)
    again = two.doit()
    assert (again.code, again.ran, two.trainings) == (0, [], trainings)
    assert latest(two) == good
    assert two.doit("plan").out == "nothing to do: everything is fresh\n"
