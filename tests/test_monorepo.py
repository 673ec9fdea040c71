"""A repo with several catalog files, a matrix and values of the environment, built by real doit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from catalogs import write
from conftest import CATALOG, Repo
from ollamake.seal import sealed

HEAD, _, REST = CATALOG.partition("datasets:")
SECRET = "hush-hush"
ROOT = f"""\
{HEAD.replace("gguf: base.gguf", 'gguf: "${BASES}/base.gguf"')}env: [BASES, DATA, {{TEAM: nobody}}]
include:
- {{files: teams/*/models.yaml, prefix: team-}}
datasets:
  shared: {{files: [datasets/shared.jsonl]}}
  tone: {{files: ["${{DATA}}/*.jsonl"]}}
"""
TEAM = """\
version: 1
defaults:
  train: {system: "You are ${TEAM}."}
datasets:
  own: {files: [own.jsonl]}
models:
  desk:
    name: desk-{data}
    base: tiny
    matrix:
      data: [[own], [shared, tone]]
  plain:
    base: tiny
    data: [own]
    train: {system: "I am plain."}
"""


@pytest.fixture
def mono(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Built."""
    write({"models.yaml": ROOT, "teams/a/models.yaml": TEAM, "teams/a/own.jsonl": Path("datasets/tone.jsonl").read_text(encoding="utf-8")})
    Path(f"{SECRET}-bases").mkdir()
    Path("base.gguf").rename(f"{SECRET}-bases/base.gguf")
    Path(f"{SECRET}-data").mkdir()
    Path("datasets/tone.jsonl").rename(f"{SECRET}-data/tone.jsonl")
    for name, value in {"BASES": f"{SECRET}-bases", "DATA": f"{SECRET}-data", "TEAM": f"{SECRET}-team"}.items():
        monkeypatch.setenv(name, value)
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert result.out.splitlines()[-1].startswith("3 models: 3 rebuilt")
    return repo


def test_models_of_included_catalogs_and_of_a_matrix_are_built_and_then_fresh(mono: Repo) -> None:
    assert sorted(mono.trainings) == ["team-desk-own", "team-desk-shared-tone", "team-plain"]
    assert set(mono.server.models) == {"team-desk-own:latest", "team-desk-shared-tone:latest", "team-plain:latest"}
    assert mono.doit().out.startswith("3 models: 3 fresh")


def kept_files() -> list[Path]:
    """The lock, the receipts, and what is remembered of steps for this machine."""
    found = [path for path in Path().rglob("*") if path.name.endswith("receipt.json") or ".ollamake/records" in path.as_posix()]
    return [Path("models.lock"), *(path for path in found if path.is_file()), *Path(".ollamake/hosts").rglob("*.json")]


def test_no_value_of_the_environment_is_in_the_lock_or_in_a_receipt(mono: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", f"{SECRET}-others")
    mono.replace("You are", "You were", "teams/a/models.yaml")
    assert mono.doit().code == 0
    assert len(kept_files()) > 15
    for path in kept_files():
        assert SECRET not in path.read_text(encoding="utf-8"), path
    lock = Path("models.lock").read_text(encoding="utf-8")
    assert '"${DATA}/tone.jsonl"' in lock
    assert '"base tiny"' in lock


def test_a_host_of_the_environment_is_not_in_a_receipt(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    address = repo.server.host.removeprefix("http://")
    monkeypatch.setenv("BOX", f"http://{address}")
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    repo.replace("version: 1\n", "version: 1\nenv: [BOX]\nollama: {host: '${BOX}'}\n")
    assert repo.doit().code == 0
    repo.server.models.clear()
    assert "(legal is no longer on ${BOX})" in repo.doit().out
    for path in kept_files():
        assert address not in path.read_text(encoding="utf-8"), path


def test_another_value_makes_those_steps_stale_that_it_decides(mono: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", f"{SECRET}-others")
    assert sealed("models.yaml") is None
    plan = mono.doit("plan", "team-desk-own")
    said = r'train\.system: "You are \$\{TEAM\}\. \[[0-9a-f]{16}\]" -> "You are \$\{TEAM\}\. \[[0-9a-f]{16}\]" \(teams/a/models\.yaml:3\)'
    assert re.search(said, plan.out), plan.out
    assert SECRET not in plan.out
    trained = {"team-desk-own", "team-desk-shared-tone"}
    assert {step for step in mono.doit().ran if step.startswith("train:")} == {f"train:{name}" for name in trained}


def test_a_value_that_is_a_place_moves_what_is_there_and_runs_nothing(mono: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bases", "data"):
        Path(f"{SECRET}-{name}").rename(f"other-{name}")
    monkeypatch.setenv("BASES", "other-bases")
    monkeypatch.setenv("DATA", "other-data")
    lock = Path("models.lock").read_bytes()
    assert mono.doit().ran == []
    assert Path("models.lock").read_bytes() == lock


def test_records_at_a_place_of_the_environment_are_told_by_their_lines(mono: Repo) -> None:
    mono.replace("Gladly not 1.", "No.", f"{SECRET}-data/tone.jsonl")
    assert "${DATA}/tone.jsonl: 1 record changed (line 2: output)" in mono.doit("plan").out


def test_an_edit_of_an_included_catalog_runs_what_it_changes(mono: Repo) -> None:
    mono.replace("I am plain.", "I am simple.", "teams/a/models.yaml")
    assert sealed("models.yaml") is None
    assert [step for step in mono.doit().ran if step.startswith("train:")] == ["train:team-plain"]
    mono.replace("models:", "# A comment.\nmodels:", "teams/a/models.yaml")
    assert sealed("models.yaml") is None
    assert mono.doit().ran == []
    assert sealed("models.yaml") is not None


def test_moving_models_to_other_files_defaults_and_matrices_runs_nothing(built: Repo) -> None:
    lock = Path("models.lock").read_bytes()
    text = Path("models.yaml").read_text(encoding="utf-8")
    head, models = text.split("models:\n")
    shared = "  shared: {files: [datasets/shared.jsonl]}\n"
    write(
        {
            "models.yaml": f"{head.replace(shared, '')}include: [parts/*.yaml]\nmodels:\n{models.partition('  sales:')[0]}",
            "parts/sales.yaml": """\
version: 1
defaults: {serve: {parameters: {temperature: 0.2}}}
datasets: {shared: {files: [../datasets/shared.jsonl]}}
models:
  any: {name: sales, matrix: {base: [tiny]}, data: [shared, tone]}
""",
        }
    )
    result = built.doit()
    assert result.ran == [], result.out
    assert Path("models.lock").read_bytes() == lock


def test_one_more_catalog_of_a_pattern_is_found(mono: Repo) -> None:
    write({"teams/b/models.yaml": "version: 1\nmodels: {late: {base: tiny, data: [shared]}}\n"})
    assert sealed("models.yaml") is None
    assert [step for step in mono.doit().ran if step.startswith("train:")] == ["train:team-late"]
    Path("teams/b/models.yaml").unlink()
    assert mono.doit().out.splitlines()[-1].startswith("3 models: 3 fresh")


@pytest.mark.parametrize("name", ["TEAM", "BASES"])
def test_a_variable_that_is_not_set_any_more_breaks_the_seal(mono: Repo, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert sealed("models.yaml") is not None
    monkeypatch.delenv(name)
    assert sealed("models.yaml") is None


def test_why_says_where_each_value_comes_from(mono: Repo) -> None:
    facts = json.loads(mono.doit("why", "team-desk-shared-tone", "--json").out)[0]
    values = {value["key"]: (value["value"], value["at"]) for value in facts["values"]}
    system, at = values.pop("train.system")
    assert re.fullmatch(r"You are \$\{TEAM\}\. \[[0-9a-f]{16}\]", system)
    assert at == "teams/a/models.yaml:3"
    assert values.pop("serve.system") == (system, at)
    del values["train.command"]
    assert values == {
        "base": ("tiny", "teams/a/models.yaml:9"),
        "data": (["shared", "tone"], "teams/a/models.yaml:11"),
        "train.trainer": ("command", "models.yaml:3"),
        "train.alpha": (4.0, None),
        "train.batch_size": (4, None),
        "train.epochs": (3, None),
        "train.learning_rate": (0.0002, None),
        "train.max_tokens": (2048, None),
        "train.rank": (2, "models.yaml:3"),
        "train.seed": (42, None),
        "train.target_modules": (["q_proj"], "models.yaml:3"),
        "train.resources.gpu": (1, None),
        "engine.kind": ("local", None),
        "serve.weights": ("auto", None),
        "serve.weights_type": ("q8_0", None),
    }
    text = mono.doit("why", "team-plain").out
    assert SECRET not in text
    lines = text.partition("\nvalues\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == [value["key"] for value in facts["values"]]
    assert [re.split("  +", line.strip()) for line in lines if "system" in line or "alpha" in line] == [
        ["train.system", '"I am plain."', "teams/a/models.yaml:15"],
        ["train.alpha", "4.0", "default"],
        ["serve.system", '"I am plain."', "teams/a/models.yaml:15"],
    ]
