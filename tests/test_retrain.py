"""`doit retrain`: an adapter that is there becomes an entry of the catalog and a model, or nothing is written; or models are trained anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import CATALOG, DODO, Repo
from test_gguf_lora import PAIR, RIGHT, write_lora
from test_lora import adapter_tensors, write_adapter
from tiny_base import write_tiny_base

HEAD = "bases:\n  tiny: {gguf: base.gguf}\n"


@pytest.fixture
def given(repo: Repo) -> Repo:
    """A repo with a PEFT folder `mine` and a GGUF LoRA `mine.gguf` in it, and nothing built."""
    write_adapter(repo.path / "mine", adapter_tensors())
    write_lora(repo.path / "mine.gguf", RIGHT, PAIR)
    return repo


def catalog() -> str:
    return Path("models.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("adapter", ["mine", "mine.gguf"])
def test_an_adapter_becomes_an_entry_and_a_model(given: Repo, adapter: str) -> None:
    result = given.doit("retrain", "--base", "tiny", "--adapter", adapter, "--name", "desk")
    assert (result.code, result.err, result.ran) == (0, "", ["package:desk", "register:desk", "test:desk"])
    assert result.out.startswith("models.yaml: model desk on tiny, written\n")
    assert catalog() == f"{CATALOG}  desk: {{base: tiny, adapter: {adapter}}}\n"
    assert "desk:latest" in given.server.models
    assert given.trainings == []
    again = given.doit("retrain", "--adapter", f"./{adapter}", "--name", "desk")
    assert (again.code, again.ran) == (0, [])
    assert again.out.startswith("models.yaml: model desk on tiny, there already at models.yaml:17\n")
    assert given.doit("build", "desk").ran == []


def test_a_base_that_the_catalog_has_not_is_written_too(given: Repo) -> None:
    Path("bases").mkdir()
    write_tiny_base(Path("bases/Other.Q8.gguf"), seed=2)
    result = given.doit("retrain", "--base", "bases/Other.Q8.gguf", "--adapter", "mine", "--name", "desk")
    assert (result.code, result.ran) == (0, ["package:desk", "register:desk", "test:desk"])
    assert catalog().count("  other.q8: {gguf: bases/Other.Q8.gguf}\n") == 1
    assert catalog().endswith("  desk: {base: other.q8, adapter: mine}\n")
    second = given.doit("retrain", "--base", "./bases/Other.Q8.gguf", "--adapter", "mine.gguf", "--name", "second")
    assert second.code == 0
    assert catalog().count("gguf: bases/Other.Q8.gguf") == 1


def test_an_adapter_that_is_given_as_a_base_is_named(given: Repo) -> None:
    result = given.doit("retrain", "--base", "mine.gguf", "--adapter", "mine", "--name", "desk")
    said = "ERROR: \nmine.gguf: an adapter, not a base: its general.type is 'adapter'\n  fix: give the base itself; an adapter is what a model's `adapter` names\n"
    assert (result.code, result.err, catalog()) == (3, said, CATALOG)


def test_the_first_model_of_a_catalog_may_be_given(given: Repo) -> None:
    Path("models.yaml").write_text(f"version: 1\n{HEAD}", encoding="utf-8")
    assert given.doit("retrain", "--adapter", "mine", "--name", "desk").ran == ["package:desk", "register:desk", "test:desk"]
    assert catalog() == f"version: 1\n{HEAD}models:\n  desk: {{base: tiny, adapter: mine}}\n"


def test_a_dry_run_checks_and_prints_and_writes_nothing(given: Repo) -> None:
    result = given.doit("retrain", "--adapter", "mine", "--name", "desk", "--dry-run")
    assert (result.code, result.out, result.err) == (0, "version: 1\nmodels:\n  desk: {base: tiny, adapter: mine}\n", "")
    assert catalog() == CATALOG
    assert given.server.models == {}


REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "no base of that name": (
        ["--base", "tyni", "--adapter", "mine", "--name", "desk"],
        "--base tyni: no base of models.yaml, and no file\n  fix: write 'tiny' (known: tiny), or give the path of a GGUF\n",
    ),
    "no base file": (
        ["--base", "nope.gguf", "--adapter", "mine", "--name", "desk"],
        "--base nope.gguf: no base of models.yaml, and no file\n  fix: known: tiny, or give the path of a GGUF\n",
    ),
    "another base of that name": (
        ["--base", "other/tiny.gguf", "--adapter", "mine", "--name", "desk"],
        "--base other/tiny.gguf: models.yaml has another base 'tiny', with base.gguf\n"
        "  fix: give it an entry of its own there, under another name, and say --base with that; or mean that one: --base tiny\n",
    ),
    "no adapter there": (
        ["--adapter", "nope", "--name", "desk"],
        "--adapter nope: no such file or folder\n  fix: give a PEFT folder, or a GGUF LoRA\n",
    ),
    "an adapter of the Hub": (
        ["--adapter", "hf://someone/pirate-lora", "--name", "desk"],
        "--adapter hf://someone/pirate-lora: an adapter of the Hub is named in the catalog\n"
        "  fix: write `adapter: hf://OWNER/NAME@COMMIT` into the model's entry, then run `doit`; docs/hub.md of ollamake has the rest\n",
    ),
    "a file of an adapter": (
        ["--adapter", "mine/adapter_model.safetensors", "--name", "desk"],
        "--adapter: 'mine/adapter_model.safetensors' is a file of an adapter, and the folder is wanted that its adapter_config.json is in\n"
        "  fix: name the folder: mine\n",
    ),
    "some other file": (
        ["--adapter", "models.yaml", "--name", "desk"],
        "--adapter models.yaml: a file whose name does not end in .gguf\n  fix: give a PEFT folder, or a GGUF LoRA under such a name\n",
    ),
    "a whole model": (
        ["--adapter", "base.gguf", "--name", "desk"],
        "base.gguf: a whole model, not an adapter: its general.type is 'model'\n"
        "  fix: give the adapter itself; a whole model is what a base's `gguf` names\n",
    ),
    "a folder without an adapter": (
        ["--adapter", "datasets", "--name", "desk"],
        "datasets/adapter_config.json: no such file\ndatasets/adapter_model.safetensors: no such file\n  fix: give a PEFT directory: adapter_config.json and adapter_model.safetensors\n",
    ),
    "for another base": (
        ["--adapter", "large", "--name", "desk"],
        "large: tensor 'base_model.model.model.layers.9.mlp.up_proj.lora_A.weight': the base has no module 'model.layers.9.mlp.up_proj' that takes a LoRA\n"
        "  fix: train a plain LoRA on attention and MLP layers: no DoRA, no bias, no modules_to_save\n",
    ),
    "no name": (
        ["--adapter", "mine", "--name", "Front Desk"],
        "--name 'Front Desk': this can't be a name\n  fix: use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit\n",
    ),
    "a model that is trained": (
        ["--adapter", "mine", "--name", "legal"],
        "models.yaml:10: model 'legal' is there already: it is trained, on base 'tiny'\n"
        "  fix: name the new one otherwise, or edit that entry; `doit build` then makes the model\n",
    ),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_built_is_refused_before_anything_is_written(given: Repo, arguments: list[str], said: str) -> None:
    Path("other").mkdir()
    shutil.copyfile("base.gguf", "other/tiny.gguf")
    name = "base_model.model.model.layers.{}.mlp.up_proj.lora_{}.weight"
    tensors = adapter_tensors()
    write_adapter(Path("large"), {name.format(9, side): tensors[name.format(1, side)] for side in "AB"})
    result = given.doit("retrain", *arguments)
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: \n{said}")
    assert catalog() == CATALOG
    assert given.server.models == {}


def test_another_adapter_under_a_name_that_is_taken_is_refused(given: Repo) -> None:
    given.doit("retrain", "--adapter", "mine", "--name", "desk")
    before = catalog()
    result = given.doit("retrain", "--adapter", "mine.gguf", "--name", "desk")
    assert result.code == 3
    assert result.err.startswith("ERROR: \nmodels.yaml:17: model 'desk' is there already: it has the adapter mine, on base 'tiny'\n  fix: ")
    assert catalog() == before


def test_which_base_is_asked_where_there_are_two(given: Repo) -> None:
    given.replace(HEAD, f"{HEAD}  second: {{gguf: base.gguf}}\n")
    result = given.doit("retrain", "--adapter", "mine", "--name", "desk")
    assert (result.code, result.err) == (
        *(3, "ERROR: \nwhich base? models.yaml has second, tiny\n  fix: say it: --base NAME, or --base PATH of a GGUF\n"),
    )


def test_a_catalog_with_faults_is_not_written_to(given: Repo) -> None:
    given.replace("data: [shared, tone]", "data: [shared, tnoe]")
    before = catalog()
    result = given.doit("retrain", "--adapter", "mine", "--name", "desk")
    assert result.code == 3
    assert "models.yaml:15: model 'sales': unknown dataset 'tnoe'" in result.err
    assert catalog() == before


def test_a_catalog_without_a_place_is_left_alone(given: Repo) -> None:
    Path("models.yaml").write_text("version: 1\nbases: {tiny: {gguf: base.gguf}}\nmodels: {m: {base: tiny, adapter: mine}}\n", encoding="utf-8")
    result = given.doit("retrain", "--adapter", "mine", "--name", "desk")
    assert (result.code, result.err) == (
        *(3, "ERROR: \nmodels.yaml:3: models are written in one line\n  fix: give each of them a line of its own; or paste what --dry-run prints\n"),
    )


@pytest.mark.parametrize("arguments", [[], ["--name", "desk"], ["--adapter", "mine"], ["--adapter", "mine", "--name", "desk", "legal"]])
def test_what_is_missing_is_said(given: Repo, arguments: list[str]) -> None:
    result = given.doit("retrain", *arguments)
    assert (result.code, result.err) == (*(3, "ERROR: usage: doit retrain --adapter PATH --name NAME [--base BASE], or doit retrain SELECTOR...\n"),)


def test_without_a_catalog_init_is_named(given: Repo) -> None:
    Path("models.yaml").unlink()
    result = given.doit("retrain", "--adapter", "mine", "--name", "desk")
    assert (result.code, result.err) == (
        *(3, "ERROR: \nmodels.yaml: no such file\n  fix: `ollamake init` writes one; or go to the folder of your dodo.py\n"),
    )
    assert not Path("models.yaml").exists()


def test_models_are_trained_anew_however_fresh_they_are(built: Repo) -> None:
    before = len(built.trainings)
    assert built.doit().ran == []
    result = built.doit("retrain", "legal")
    assert result.code == 0
    assert "train:legal" in result.ran
    assert built.trainings[before:] == ["legal"]


def test_it_may_be_typed_in_another_folder(given: Repo) -> None:
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    Path("elsewhere").mkdir()
    argv = [sys.executable, "-m", "doit", "retrain", "-f", "../dodo.py", "--adapter", "../mine", "--name", "desk"]
    done = subprocess.run(argv, cwd="elsewhere", capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert catalog().endswith("  desk: {base: tiny, adapter: mine}\n")
    assert not Path("elsewhere/models.yaml").exists()


def test_what_a_dry_run_of_selectors_would_train_is_the_plans_to_say(built: Repo) -> None:
    before = built.trainings
    result = built.doit("retrain", "--dry-run", "legal")
    assert (result.code, built.trainings) == (3, before)
    assert "--dry-run is for an adapter that is there; `doit retrain SELECTOR...` trains all that it names" in result.err
