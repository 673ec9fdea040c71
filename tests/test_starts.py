"""What a training begins with: the base, its own adapter of before, or that of another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Repo
from stepping_repo import TRAIN, receipt, record, steps
from test_lock import git
from test_lora import write_adapter

PREVIOUS = TRAIN.replace("rank: 2", "rank: 2, start_from: previous")


@pytest.fixture
def previous(stepping: Repo) -> Repo:
    """The same, with models that go on from their own adapters; legal is trained."""
    stepping.replace(TRAIN, PREVIOUS)
    assert stepping.doit("train:legal").code == 0
    assert steps()[0] == "legal base all"
    return stepping


def test_added_records_are_learnt_on_top_of_the_adapter(previous: Repo) -> None:
    with previous.records("shared").open("a", encoding="utf-8") as file:
        file.write(record(8))
    result = previous.doit("train:legal")
    assert "   legal: begins with its own adapter of before: training 2 of at most 10 upon one another\n" in result.out
    assert steps()[0].startswith("legal start ")
    start = receipt()["start"]
    assert isinstance(start, dict)
    assert (start["from"], start["chain"]) == ("previous", 2)
    assert start["adapter"].startswith("sha256:")


def test_records_that_were_changed_are_learnt_from_the_base(previous: Repo) -> None:
    previous.replace("Answer 3.", "Answer three.", "datasets/shared.jsonl")
    result = previous.doit("train:legal")
    said = "begins with the base: 1 record of before was changed or removed; `start_from: {previous: always}` begins with it all the same"
    assert f"   legal: {said}\n" in result.out
    assert steps()[0] == "legal base all"


def test_records_that_were_changed_are_learnt_on_top_where_that_is_forced(previous: Repo) -> None:
    previous.replace("start_from: previous", "start_from: {previous: always}")
    previous.replace("Answer 3.", "Answer three.", "datasets/shared.jsonl")
    assert previous.doit("train:legal").code == 0
    assert steps()[0].startswith("legal start ")


def test_another_recipe_begins_with_the_base(previous: Repo) -> None:
    previous.replace("epochs: 2", "epochs: 1")
    result = previous.doit("train:legal")
    assert "   legal: begins with the base: the recipe is another one: train.epochs\n" in result.out
    assert steps()[0] == "legal base all"


def test_why_says_what_a_model_began_with(previous: Repo) -> None:
    assert previous.doit("build", "legal").code == 0
    assert "\n    began " not in previous.doit("why", "legal").out
    with previous.records("shared").open("a", encoding="utf-8") as file:
        file.write(record(8))
    assert previous.doit("build", "legal").code == 0
    assert "\n    began     with the adapter of previous: training 2 upon one another\n" in previous.doit("why", "legal").out


def test_a_chain_has_an_end(previous: Repo) -> None:
    previous.replace("start_from: previous", "start_from: {previous: added, limit: 2}")
    for number, begun in ((8, "legal start"), (9, "legal base"), (10, "legal start")):
        with previous.records("shared").open("a", encoding="utf-8") as file:
            file.write(record(number))
        result = previous.doit("train:legal")
        assert result.code == 0
        assert steps()[0].startswith(begun), result.out


def test_an_adapter_that_was_edited_is_not_begun_with(previous: Repo) -> None:
    path = Path("adapters/legal/adapter_model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    result = previous.doit("train:legal")
    assert "   legal: begins with the base: its adapter is not as it was trained\n" in result.out
    assert steps()[0] == "legal base all"


def test_a_model_that_starts_from_another_trains_after_it(stepping: Repo) -> None:
    stepping.replace("  legal:\n    base: tiny\n", "  legal:\n    base: tiny\n    train: {start_from: sales}\n")
    result = stepping.doit("train:legal")
    assert [step for step in result.ran if step.startswith("train")] == ["train:sales", "train:legal"]
    begun = [line for line in steps() if line.split()[1] in {"start", "base"}]
    assert begun[0] == "sales base all"
    assert begun[1].startswith("legal start ")
    assert stepping.doit("train:legal").ran == []
    stepping.records("tone").write_text(record(100), encoding="utf-8")
    assert [step for step in stepping.doit("train:legal").ran if step.startswith("train")] == ["train:sales", "train:legal"]


def test_a_base_may_get_another_name(previous: Repo) -> None:
    previous.replace("  tiny:", "  small:")
    previous.replace("base: tiny", "base: small")
    with previous.records("shared").open("a", encoding="utf-8") as file:
        file.write(record(8))
    assert previous.doit("train:legal").code == 0
    assert steps()[0].startswith("legal start ")


def test_the_same_records_are_not_learnt_upon_themselves(previous: Repo) -> None:
    lines = previous.records("shared").read_text(encoding="utf-8").splitlines(keepends=True)
    previous.records("shared").write_text("".join(reversed(lines)), encoding="utf-8")
    result = previous.doit("train:legal")
    assert "   legal: begins with the base: no record was added; `start_from: {previous: always}` begins with it all the same\n" in result.out
    assert steps()[0] == "legal base all"
    assert previous.doit("retrain", "legal").code == 0
    assert steps()[-5:] == ["legal base all", "legal 1", "legal 2", "legal 3", "legal 4"]


LEGAL = "  legal:\n    base: tiny\n"


@pytest.fixture
def behind(stepping: Repo) -> Repo:
    """A repo where legal starts from sales, which stands behind it in the catalog; legal is trained."""
    stepping.replace(LEGAL, f"{LEGAL}    train: {{start_from: sales}}\n")
    assert stepping.doit().code == 0
    steps()
    return stepping


@pytest.mark.parametrize("selector", [["legal"], []], ids=["of the model", "of all"])
def test_a_plan_knows_what_a_start_does_to_those_behind_it(behind: Repo, selector: list[str]) -> None:
    behind.records("tone").write_text(record(100), encoding="utf-8")
    told = {step["step"]: step["runs"] for step in json.loads(behind.doit("plan", "--json", *selector).out)["steps"]}
    assert (told["train:sales"], told["train:legal"]) == ("yes", "perhaps")
    assert ("package:sales" in told) is not selector
    assert {line.split()[0] for line in behind.doit("ls", "state:stale").out.splitlines()} >= {"sales", "legal"}
    (facts,) = json.loads(behind.doit("why", "--json", "legal").out)
    assert not facts["fresh"]
    assert facts["registered"]["there"]
    assert {step["step"] for step in facts["steps"]} > {"train:sales", "train:legal"}


def test_an_edit_affects_the_models_that_start_from_what_it_changes(behind: Repo) -> None:
    Path(".gitignore").write_text("/build/\n/.ollamake/\n/plugins/\n", encoding="utf-8")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "first")
    behind.records("tone").write_text(record(100), encoding="utf-8")
    found = {line.split()[0]: line for line in behind.doit("affected", "--since", "HEAD").out.splitlines()}
    assert set(found) == {"legal", "sales"}
    assert " train?" in found["legal"]


def test_an_adapter_to_start_from_that_does_not_fit_is_said_before_it_trains(stepping: Repo) -> None:
    assert stepping.doit("train:sales").code == 0
    shutil.copytree("adapters/sales", "given")
    Path("given/adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", encoding="utf-8")
    stepping.replace(LEGAL, f"  given:\n    base: tiny\n    adapter: given\n{LEGAL}    train: {{start_from: given}}\n")
    steps()
    result = stepping.doit("train:legal")
    assert result.code == 1
    assert "given/adapter_model.safetensors" in result.out
    assert steps() == []


def test_only_the_adapter_itself_is_given_to_a_training(stepping: Repo) -> None:
    assert stepping.doit("train:sales").code == 0
    Path("adapters/sales/adapter_notes").mkdir()
    Path("adapters/sales/adapter_model.bin").write_bytes(b"a pickle")
    stepping.replace(LEGAL, f"{LEGAL}    train: {{start_from: sales}}\n")
    Path("die").write_text("1", encoding="utf-8")
    result = stepping.doit("train:legal")
    assert "was ended by signal 9" in result.out
    (start,) = Path("build/legal").glob("job-*/start")
    assert sorted(path.name for path in start.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"r": 4, "lora_alpha": 8},
            "that adapter has rank 4, and this recipe 2\n  fix: write `rank: 4` into the model's `train:`, or start from the base\n",
        ),
        (
            {"alpha_pattern": {"q_proj": 8}},
            "that adapter has alpha_pattern, and a recipe one rank and one alpha for all layers\n"
            "  fix: start from the base, or from an adapter that was trained here\n",
        ),
    ],
)
def test_an_adapter_of_another_form_is_said_before_it_trains(stepping: Repo, change: dict[str, Any], said: str) -> None:
    rank = change.get("r", 2)
    stepping.replace(LEGAL, f"  given:\n    base: tiny\n    adapter: given\n{LEGAL}    train: {{start_from: given}}\n")
    pair = {"lora_A": np.ones((rank, 64), np.float32), "lora_B": np.ones((64, rank), np.float32)}
    write_adapter(Path("given"), {f"base_model.model.model.layers.0.self_attn.q_proj.{side}.weight": matrix for side, matrix in pair.items()})
    config = json.loads(Path("given/adapter_config.json").read_text(encoding="utf-8"))
    Path("given/adapter_config.json").write_text(json.dumps({**config, "r": 2, **change}), encoding="utf-8")
    result = stepping.doit("train:legal")
    assert (result.code, steps()) == (1, [])
    assert f"models.yaml:13: model 'legal': start_from: {said}" in result.out
