"""What is around a training: it goes on where it was killed, begins where it is told to, and leaves what it told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Repo
from stepping_repo import receipt, replace_plugin, steps
from stepping_trainer import PLUGIN


def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(stepping: Repo) -> None:
    Path("die").write_text("3", encoding="utf-8")
    result = stepping.doit("train:legal")
    assert result.code == 1
    assert "trainer 'stepping' was ended by signal 9 (out of memory?)" in result.out
    assert steps() == ["legal base all", "legal 1", "legal 2", "legal 3"]
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out
    assert "   legal: goes on from checkpoint-3 of a training that was ended\n" in result.out
    assert steps() == ["legal base all", "legal 4"]
    assert receipt()["steps"] == 4
    assert not list(Path("build/legal").glob("job-*"))
    assert stepping.doit("train:legal").ran == []


def test_a_training_that_goes_on_took_as_long_as_all_of_its_programs(stepping: Repo) -> None:
    Path("die").write_text("3", encoding="utf-8")
    stepping.doit("train:legal")
    events = Path("build/legal/events.jsonl")
    said = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    said[-1]["time"] = f"{int(said[-1]['time'][:4]) + 1}{said[-1]['time'][4:]}"  # it ran for a year
    events.write_text("".join(f"{json.dumps(event)}\n" for event in said), encoding="utf-8")
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out
    assert json.loads(Path("adapters/legal/receipt.json").read_text(encoding="utf-8"))["seconds"] > 360 * 86400
    stepping.replace("rank: 2", "rank: 3")
    assert json.loads(stepping.doit("plan", "legal", "--json").out)["seconds"] > 360 * 86400


def test_a_training_whose_build_was_killed_goes_on_as_well(stepping: Repo) -> None:
    Path("die").write_text("2 build", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "train:legal"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert steps() == ["legal base all", "legal 1", "legal 2"]
    assert stepping.doit("train:legal").code == 0
    assert steps() == ["legal base all", "legal 3", "legal 4"]
    events = [json.loads(line) for line in Path("build/legal/events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(event["event"], event.get("step", 0)) for event in events] == [
        *(("start", 0), ("step", 1), ("step", 2)),
        *(("start", 0), ("resumed", 2), ("step", 3), ("step", 4)),
    ]
    assert all(event["time"].endswith("Z") for event in events)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("epochs: 2", "epochs: 3", "models.yaml"), id="recipe"),
        pytest.param(("Answer 7.", "Answer seven.", "datasets/shared.jsonl"), id="record"),
    ],
)
def test_a_checkpoint_of_another_training_is_not_gone_on_from(stepping: Repo, change: tuple[str, str, str]) -> None:
    Path("die").write_text("3", encoding="utf-8")
    assert stepping.doit("train:legal").code == 1
    steps()
    stepping.replace(*change)
    assert stepping.doit("train:legal").code == 0
    assert steps()[:2] == ["legal base all", "legal 1"]
    assert not list(Path("build/legal").glob("job-*"))


def test_a_checkpoint_of_another_trainer_is_not_gone_on_from(stepping: Repo) -> None:
    Path("die").write_text("3", encoding="utf-8")
    assert stepping.doit("train:legal").code == 1
    steps()
    replace_plugin("two_plugins", PLUGIN + "\nclass Other(Stepping):\n    name = 'other'\n", "stepping,other")
    stepping.replace("trainer: stepping", "trainer: other")
    assert stepping.doit("train:legal").code == 0
    assert steps()[:2] == ["legal base all", "legal 1"]


def test_a_prefix_by_a_path_is_the_repos_where_a_trainer_runs_in_its_job(stepping: Repo) -> None:
    Path("in env").write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    Path("in env").chmod(0o755)
    replace_plugin("prefixed_plugin", PLUGIN.replace("argv=(sys.executable, ", "argv=(*job.environment.python(), "))
    stepping.replace("rank: 2", "rank: 2, env: ['./in env']")
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out


def test_modules_are_found_by_a_trainer_that_runs_in_its_job(stepping: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine").mkdir()
    Path("mine/trained_here.py").write_text("from stepping_trainer import *\nmain(Path(sys.argv[1]))\n", encoding="utf-8")
    here = Path(__file__).parent
    replace_plugin("module_plugin", PLUGIN.replace(f'"-I", "-S", {str(here / "stepping_trainer.py")!r}', '"-m", "trained_here"'))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["mine", str(here)]))
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out


def test_a_value_of_the_environment_is_a_plain_text_to_a_trainer_and_told_to_nobody_else(stepping: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t-value")
    yaml_of = "__import__('yaml').safe_dump(dict(job.recipe))"
    replace_plugin("yaml_plugin", PLUGIN.replace("return Command(", f"return Command(files={{'config.yaml': {yaml_of}}}, "))
    stepping.replace("version: 1\n", "version: 1\nenv: [SECRET]\n")
    stepping.replace("rank: 2", "rank: 2, env: '${SECRET}', options: {a: 'to ${SECRET}', b: ['${SECRET}']}")
    Path("s3cr3t-value").mkdir()
    result = stepping.doit("package:legal")
    assert result.code == 0, result.out
    assert [path for path in Path().rglob("*") if path.is_file() and b"s3cr3t-value" in path.read_bytes()] == []


def test_a_training_begins_when_that_of_a_build_before_has_ended_whichever_it_was(stepping: Repo) -> None:
    job = Path("build/legal/job-before")
    job.mkdir(parents=True)
    orphan_does = (
        "import fcntl, time",
        "lock = open('build/legal/job-before/lock', 'a')",
        "fcntl.flock(lock, fcntl.LOCK_EX)",
        "print('held', flush=True)",
        "time.sleep(2)",
        "print('legal ended', file=open('steps.log', 'a'), flush=True)",
    )
    with subprocess.Popen([sys.executable, "-c", "; ".join(orphan_does)], stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        assert stepping.doit("train:legal").code == 0
    assert steps()[:2] == ["legal ended", "legal base all"]
    assert not job.exists()


def test_what_a_loss_of_power_has_torn_is_not_gone_on_from(stepping: Repo) -> None:
    Path("die").write_text("3", encoding="utf-8")
    assert stepping.doit("train:legal").code == 1
    steps()
    (text,) = Path("build/legal").glob("job-*/text.jsonl")
    text.write_bytes(b"")
    assert stepping.doit("train:legal").code == 0
    assert steps()[:2] == ["legal base all", "legal 1"]


def test_an_event_that_was_torn_spoils_no_other(stepping: Repo) -> None:
    Path("die").write_text("3", encoding="utf-8")
    assert stepping.doit("train:legal").code == 1
    events = Path("build/legal/events.jsonl")
    with events.open("a", encoding="utf-8") as file:
        file.write('{"time": "2026-')
    assert stepping.doit("train:legal").code == 0
    lines = events.read_text(encoding="utf-8").splitlines()
    lines.remove('{"time": "2026-')
    assert [json.loads(line)["event"] for line in lines] == ["start", "step", "step", "step", "start", "resumed", "step"]


def test_what_a_trainer_says_is_wrong_has_the_line_of_its_key(stepping: Repo) -> None:
    Path("die").write_text("1 fail", encoding="utf-8")
    result = stepping.doit("train:legal")
    assert result.code == 1
    assert "\ntrain:legal failed:\nmodels.yaml:3: model 'legal': this is no good rank\n  fix: write another\n" in result.out


def test_held_out_records_are_given_to_who_reads_them_and_decide_nothing(stepping: Repo) -> None:
    stepping.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 40%}")
    assert stepping.doit("train:legal").code == 0
    assert steps()[0] == "legal base holdout"
    text, holdout = (Path(f"build/legal/{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in ("text", "holdout"))
    assert len(text) + len(holdout) == 8
    assert holdout
    answer = json.loads(holdout[0])["messages"][-1]["content"]
    lines = stepping.records("shared").read_text(encoding="utf-8").splitlines(keepends=True)
    stepping.records("shared").write_text("".join(line for line in lines if answer not in line), encoding="utf-8")
    result = stepping.doit("train:legal")
    assert (result.code, result.ran) == (0, ["validate:shared", "convert:legal"])


def test_held_out_records_decide_where_the_best_is_kept(stepping: Repo) -> None:
    stepping.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 40%}")
    stepping.replace("epochs: 2", "epochs: 2, keep: best")
    assert stepping.doit("train:legal").code == 0
    assert "build/legal/holdout.jsonl" in json.loads(Path("models.lock").read_text(encoding="utf-8"))["train:legal"]["inputs"]


def test_where_no_record_is_held_out_none_can_decide(stepping: Repo) -> None:
    stepping.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 0.1%}")
    assert stepping.doit("train:legal").code == 0
    assert Path("build/legal/holdout.jsonl").read_bytes() == b""
    assert steps()[0] == "legal base all"
    stepping.replace("epochs: 2", "epochs: 2, keep: best")
    result = stepping.doit("train:legal")
    said = (
        "models.yaml:3: model 'legal': keep is decided by records that are held out, and of so few none is\n"
        "  fix: write a larger `holdout` into a dataset of the model, or remove `keep`\n"
    )
    assert said in result.out
    assert steps() == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "rank: 2",
            "rank: 2, keep: best",
            "models.yaml:3: model 'legal': keep is decided by records that are held out, and no dataset holds any out\n"
            "  fix: write `holdout: 5%` into a dataset of the model",
        ),
        (
            "rank: 2",
            "rank: 2, start_from: selas",
            "models.yaml:3: model 'legal': train.start_from: unknown model 'selas'\n  fix: write 'sales' (known: base, legal, previous, sales)",
        ),
        (
            "  legal:\n    base: tiny\n",
            "  legal:\n    base: tiny\n    train: {start_from: legal}\n",
            "models.yaml:12: model 'legal': train.start_from: it starts from itself\n  fix: write `start_from: previous`, its own adapter of before, or `base`",
        ),
        (
            "rank: 2",
            "rank: 2, start_from: previos",
            "models.yaml:3: model 'legal': train.start_from: unknown model 'previos'\n  fix: write 'previous' (known: base, legal, previous, sales)",
        ),
        (
            "rank: 2, target_modules: [q_proj]",
            "rank: 2, target_modules: [q_proj, lm_head]",
            "models.yaml:3: model 'legal' and 1 more: target_modules: 'lm_head': Ollama serves no LoRA on the output layer: it accepts one, and does not load it\n"
            "  fix: remove 'lm_head'",
        ),
    ],
)
def test_a_recipe_that_can_not_be_trained_is_said_before_anything_runs(stepping: Repo, old: str, new: str, said: str) -> None:
    stepping.replace(old, new)
    result = stepping.doit()
    assert (result.code, result.out) == (3, "")
    assert said in result.err


def test_a_recipe_that_is_objected_to_twice_is_that_of_one_model(repo: Repo) -> None:
    repo.replace(
        "    base: tiny\n    data: [shared]\n", "    base: tiny\n    data: [shared]\n    train: {trainer: peft, target_modules: [lm_head]}\n"
    )
    said = "ERROR: \nmodels.yaml:13: model 'legal': target_modules: 'lm_head': "
    assert repo.doit().err.startswith(said)


def test_a_key_of_the_catalogs_is_no_option(repo: Repo) -> None:
    repo.replace(
        "    base: tiny\n    data: [shared]\n", "    base: tiny\n    data: [shared]\n    train: {trainer: peft, options: {learning_rate: 1e-3}}\n"
    )
    said = "models.yaml:13: model 'legal': options.learning_rate: the catalog says this as train.learning_rate\n"
    assert f"{said}  fix: write train.learning_rate, and remove 'learning_rate' from train.options\n" in repo.doit().err


def test_a_rank_above_a_matrix_is_said_before_it_trains(stepping: Repo) -> None:
    stepping.replace("rank: 2", "rank: 65")
    result = stepping.doit("train:legal")
    said = (
        "models.yaml:3: model 'legal': rank 65 is above the size of q_proj of base 'tiny', 64 x 64\n  fix: write `rank: 16` into the model's `train:`"
    )
    assert said in result.out
    assert steps() == []


def test_options_and_env_are_of_the_trainer_that_they_are_said_for(repo: Repo) -> None:
    from ollamake.catalog.load import load_catalog

    repo.replace("    base: tiny\n    data: [shared]\n", "    base: tiny\n    data: [shared]\n    train: {trainer: peft, options: {a: 1}}\n")
    (line,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, "  train: {trainer: trl, env: envs/trl, options: {b: 2, c: 3}}")
    repo.replace("    data: [shared, tone]\n", "    data: [shared, tone]\n    train: {options: {c: 4}}\n")
    legal, sales = load_catalog(Path("models.yaml"), trainers=["peft", "trl"]).models
    assert (legal.train.env, legal.train.options) == (None, {"a": 1})
    assert (sales.train.env, sales.train.options) == ("envs/trl", {"b": 2, "c": 4})


def test_a_plan_knows_that_held_out_records_train_nothing(stepping: Repo) -> None:
    stepping.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 40%}")
    stepping.replace("epochs: 2", "epochs: 2, keep: best")
    assert stepping.doit("train:legal").code == 0
    held = [json.loads(line)["messages"][-1]["content"] for line in Path("build/legal/holdout.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = stepping.records("shared").read_text(encoding="utf-8").splitlines(keepends=True)
    stepping.records("shared").write_text("".join(line for line in lines if held[0] not in line), encoding="utf-8")
    assert "train:legal" in stepping.doit("plan", "legal").out  # for they decide which epoch is kept
    stepping.replace("keep: best", "keep: last")
    assert stepping.doit("train:legal").code == 0
    stepping.records("shared").write_text("".join(line for line in lines if held[-1] not in line), encoding="utf-8")
    told = {step["step"]: step["runs"] for step in json.loads(stepping.doit("plan", "--json", "legal").out)["steps"]}
    assert "convert:legal" in told
    assert "train:legal" not in told


QLORA = (
    "models.yaml:12: {}model 'legal': adapter: given/adapter_config.json: base_model_name_or_path is 'unsloth/x-bnb-4bit': trained on a base in 4 or 8 bits (QLoRA), "
    "a LoRA learns to mend the errors of that quantization, and is served on a base that has other ones{}\n"
    "  fix: train it on the base's full weights; or allow it by `policy: {{qlora: allow}}`"
)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (None, QLORA.format("warning: ", "")),
        ("warn", QLORA.format("warning: ", "")),
        ("refuse", QLORA.format("", "; `policy: {qlora: refuse}` of this catalog")),
        ("allow", ""),
    ],
)
def test_an_adapter_that_was_trained_on_a_quantized_base_is_dealt_with_as_the_policy_says(repo: Repo, policy: str | None, said: str) -> None:
    assert repo.doit("train:legal").code == 0
    Path("adapters/legal").rename("given")
    config = json.loads(Path("given/adapter_config.json").read_text(encoding="utf-8"))
    Path("given/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "unsloth/x-bnb-4bit"}), encoding="utf-8")
    repo.replace("    base: tiny\n    data: [shared]\n", "    base: tiny\n    adapter: given\n")
    if policy is not None:
        repo.replace("version: 1\n", f"version: 1\npolicy: {{qlora: {policy}}}\n")
        said = said.replace("models.yaml:12", "models.yaml:13")
    result = repo.doit("package:legal")
    assert result.code == (3 if policy == "refuse" else 0), result.err
    assert result.err.replace("ERROR: \n", "").strip() == said


@pytest.mark.parametrize("by", ["name", "config"])
def test_a_base_that_trainers_load_quantized_is_dealt_with_as_the_policy_says(stepping: Repo, by: str) -> None:
    hf = "unsloth/x-bnb-4bit" if by == "name" else "hf"
    Path("hf").mkdir()
    Path("hf/config.json").write_text(json.dumps({"quantization_config": {"bits": 4}}), encoding="utf-8")
    stepping.replace("tiny: {gguf: base.gguf}", f"tiny: {{gguf: base.gguf, hf: {hf}}}")
    result = stepping.doit("plan")
    evidence = f"'{hf}'" if by == "name" else "hf/config.json has a quantization_config"
    said = f"model 'legal' and 1 more: base 'tiny': hf: {evidence}: trained on a base in 4 or 8 bits (QLoRA), a LoRA learns to mend"
    assert f"models.yaml:5: warning: {said}" in result.err
    stepping.replace("version: 1\n", "version: 1\npolicy: {qlora: refuse}\n")
    result = stepping.doit("train:legal")
    assert (result.code, steps()) == (3, [])
    assert f"models.yaml:6: {said}" in result.err
    stepping.replace("qlora: refuse", "qlora: allow")
    assert stepping.doit("plan").err == ""
