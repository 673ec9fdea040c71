"""What a plan says of a cache, before a build asks it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo


def plan_of(repo: Repo, *words: str) -> dict[str, Any]:
    """The plan for programs; its trainings as `step -> does the cache have it?`."""
    plan: dict[str, Any] = json.loads(repo.doit("plan", "--json", *words).out)
    plan["train"] = {step["name"]: step.get("cached", False) for step in plan["steps"] if step["stage"] == "train"}
    return plan


@pytest.mark.parametrize("lock", [True, False])
def test_a_fresh_clone_is_told_what_the_cache_has(repo: Repo, shared: Path, clone: Callable[..., Repo], lock: bool) -> None:
    assert repo.doit("build", "legal").code == 0
    other = clone(lock=lock)
    plan = plan_of(other)
    assert (plan["train"], plan["trainings"], plan["trainings_at_most"], plan["cached"]) == ({"legal": True, "sales": False}, 1, 1, 1)
    assert plan["may_be_cached"] is False
    said = other.doit("plan").out
    assert ".  train:legal      cache  " in said
    assert ", 1 training among them, 1 adapter from the cache" in said.splitlines()[-1]
    assert other.doit().code == 0
    assert other.trainings == ["sales"]
    assert plan_of(other)["fresh"]


def test_an_edit_that_somebody_has_trained_already_is_none_to_train(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("train")
    other = clone()
    assert other.doit("train").code == 0
    other.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert plan_of(other)["train"] == {"legal": False, "sales": False}
    repo.replace("Answer 3.", "Another answer.", str(repo.path / "datasets/shared.jsonl"))
    other.doit("train:legal")
    assert plan_of(other)["train"] == {"sales": False}
    third = clone()
    third.replace("rank: 2,", "rank: 2, seed: 7,")
    assert plan_of(third)["train"] == {"legal": False, "sales": False}
    third.replace("seed: 7", "seed: 42")  # the default: no other training
    assert plan_of(third)["train"] == {"legal": True, "sales": False}


def test_what_starts_from_an_adapter_that_is_yet_to_come_counts_as_a_training(stepping: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    stepping.replace("  legal:\n    base: tiny\n", "  legal:\n    base: tiny\n    train: {start_from: sales}\n")
    assert stepping.doit("train").code == 0
    other = clone()
    assert plan_of(other)["train"] == {"sales": True, "legal": False}
    assert other.doit("train:sales").code == 0
    assert plan_of(other)["train"] == {"legal": True}


def test_a_cache_is_not_asked_where_nobody_wants_it(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("train")
    other = clone()
    assert ", 2 trainings among them unless the cache has them" in other.doit("plan", "--no-cache").out
    plan = plan_of(other, "--no-cache")
    assert (plan["trainings"], plan["cached"], plan["may_be_cached"]) == (2, 0, True)
    other.replace(f"{{url: {shared}}}", f"{{url: {shared}, read: false}}")
    assert ", 2 trainings among them" in other.doit("plan").out
    assert "cache" not in other.doit("plan").out


def test_a_cache_that_does_not_answer_is_waited_for_once(hanging: Repo) -> None:
    done = hanging.doit("plan")
    warning = "models.yaml:2: warning: the cache at s3://team/models does not answer: nothing for 0.5 s; what it has is not known\n"
    assert (done.code, done.err) == (4, warning)
    assert ", 2 trainings among them unless the cache has them" in done.out
    plan = hanging.doit("plan", "--json")
    assert (json.loads(plan.out)["may_be_cached"], plan.err) == (True, warning)


def test_a_plan_ends_though_its_questions_are_not_answered(hanging: Repo) -> None:
    (hanging.path / "dodo.py").write_text(DODO, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "plan"], capture_output=True, text=True, check=False, timeout=40)  # its library waits longer
    assert (done.returncode, done.stderr.count("warning: the cache at ")) == (4, 1), done.stderr


def test_what_the_cache_has_does_not_count_as_a_long_training(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("build", "legal")
    other = clone()
    refused = other.doit("build", "--max-train-minutes", "100")
    assert refused.code == 3
    assert "train:legal" not in refused.err
    assert "    train:sales: " in refused.err
    assert other.doit("build", "legal", "--max-train-minutes", "100").code == 0
    assert other.trainings == []
    always = other.doit("build", "legal", "-a", "--max-train-minutes", "0.0001")
    assert (always.code, "    train:legal: " in always.err) == (3, True)


def test_a_runner_without_base_and_data_is_told_by_the_lock(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    assert repo.doit("train").code == 0
    other = clone()
    (other.path / "base.gguf").unlink()
    assert plan_of(other)["train"] == {"legal": True, "sales": True}
    other.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    plan = plan_of(other)
    assert (plan["train"], plan["may_be_cached"]) == ({"legal": False, "sales": False}, True)  # of which text, nobody knows here
    shutil.rmtree(other.path / "datasets")
    said = other.doit("plan").out.splitlines()
    assert said[-1] == "12 steps will run, 2 adapters from the cache; how long they take, the past does not tell"


def test_a_lock_that_is_of_another_text_than_the_adapter_tells_nothing(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    assert repo.doit("train").code == 0
    repo.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert repo.doit("convert").code == 0  # and not trained
    other = clone()
    (other.path / "base.gguf").unlink()
    assert plan_of(other)["train"] == {"legal": False, "sales": False}


def test_a_pointer_of_git_lfs_whose_adapter_no_cache_has_will_fail(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    assert repo.doit("train").code == 0
    other = clone()
    for name in ("legal", "sales"):
        folder = shutil.copytree(repo.path / "adapters" / name, other.path / "adapters" / name)
        weights = folder / "adapter_model.safetensors"
        content = weights.read_bytes()
        oid = hashlib.sha256(content).hexdigest()
        weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n", encoding="utf-8")
    assert plan_of(other)["train"] == {"legal": True, "sales": True}
    shutil.rmtree(shared)
    plan = other.doit("plan", "--json")
    runs = {step["step"]: step["runs"] for step in json.loads(plan.out)["steps"]}
    assert (runs["train:legal"], runs["package:legal"], json.loads(plan.out)["trainings"]) == ("fails", "blocked", 0)
    done = other.doit("build", "legal", "--max-train-minutes", "1000")
    assert (done.code, "a pointer of git-lfs: what was trained is not here" in done.out, other.trainings) == (1, True, [])


def test_a_run_says_that_it_goes_on_without_a_cache(repo: Repo) -> None:
    repo.replace("version: 1\n", "version: 1\ncache: {url: /no/such/disk/cache}\n")
    warning = "models.yaml:2: warning: the cache at /no/such/disk/cache is not there: no such folder: /no/such/disk; "
    assert f"{warning}what it has is not known\n" in repo.doit("plan").err
    assert f"{warning}this run goes on without it\n" in repo.doit("build", "--max-train-minutes", "1000").err


def test_where_nothing_may_be_trained_nothing_has_to_be_installed(
    repo: Repo, shared: Path, clone: Callable[..., Repo], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repo.doit("train:legal").code == 0
    other = clone()
    monkeypatch.setitem(sys.modules, "ray", None)
    other.replace("version: 1\n", "version: 1\nengine: {kind: ray}\n")
    assert other.doit("train").code == 3
    done = other.doit("build", "train:sales", "train:legal", "--max-train-minutes", "0")
    lines = done.out.splitlines()
    assert (done.code, lines[-2].startswith("2 models: "), lines[-1].startswith("1 adapter from the cache (")) == (1, True, True), done.out
    assert "sales': the cache has no adapter of just this" in done.out
    (one,) = shared.glob("adapters/*/*.tar")
    one.write_bytes(one.read_bytes()[:300])
    again = clone().doit("build", "train:legal", "--max-train-minutes", "0")
    assert (again.code, "in the cache is refused: it is cut off\n" in again.out) == (1, True)


def test_a_run_and_a_comment_say_it_too(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("build", "legal")
    other = clone()
    comment = other.doit("plan", "--markdown").out
    assert "### ollamake: 2 of 2 models are stale: 1 trains, 1 adapter from the cache" in comment
    assert "train (cache)" in comment
    events = [json.loads(line) for line in other.doit("--json").out.splitlines()]
    (plan,) = (event for event in events if event["event"] == "plan")
    assert (plan["trainings"], plan["cached"]) == (1, 1)
