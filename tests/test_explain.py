"""`doit plan`, `doit why`, `doit accept` and `doit build`, as they are typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from conftest import Repo, jsonl, without_times


def plan(repo: Repo, *arguments: str) -> dict[str, str]:
    result = repo.doit("plan", "--json", *arguments)
    facts = json.loads(result.out)
    assert result.code == (0 if facts["fresh"] else 4)
    assert facts["fresh"] == (facts["steps"] == [])
    return {step["step"]: step["runs"] for step in facts["steps"]}


def shown(text: str) -> str:
    """The text without its times and digests."""
    return re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "THEN", re.sub(r" +[0-9.]+ s(?=\W|$)", " TIME", text)))


def test_a_plan_of_what_was_never_built(repo: Repo) -> None:
    result = repo.doit("plan", "legal")
    assert (result.code, result.err) == (4, "")
    assert result.out == (
        ".  validate:shared  ?  not built yet\n"
        ".  convert:legal    ?  not built yet\n"
        ".  train:legal      ?  not built yet\n"
        ".  package:legal    ?  not built yet\n"
        ".  register:legal   ?  not built yet\n"
        ".  test:legal       ?  not built yet\n"
        "6 steps will run, 1 training among them; how long they take, the past does not tell\n"
    )
    assert not list(Path().glob("build")) + list(Path().glob(".ollamake")) + list(Path().glob("models.lock"))  # it writes nothing


def test_a_plan_says_that_the_base_is_not_there(repo: Repo) -> None:
    Path("base.gguf").unlink()
    out = repo.doit("plan", "legal").out
    assert ".  train:legal      ?  not built yet; base tiny is not there\n" in out
    assert ".  convert:legal    ?  not built yet; base tiny is not there\n" in out


def test_a_plan_goes_down_to_records_and_lines_of_the_catalog(built: Repo) -> None:
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3, alpha: 4}\n")
    result = built.doit("plan", "legal")
    assert shown(result.out).splitlines() == [
        ".  validate:shared TIME  datasets/shared.jsonl: 1 record changed (line 4: output)",
        ".  convert:legal TIME  validate:shared will run; datasets/shared.jsonl changed",
        ".  train:legal TIME  convert:legal will run; train.rank: 2 -> 3 (models.yaml:13)",
        "?  package:legal TIME  train:legal will run; packages unless its adapter comes out the same",
        "?  register:legal TIME  package:legal may run; registers unless its GGUF comes out the same",
        "?  test:legal TIME  register:legal may run; tests unless its model comes out the same",
        "3 steps will run, 1 training among them, and 3 more may (?): about TIME",
    ]
    assert built.doit("plan", "--json", "legal").code == built.doit("plan", "legal", "--json").code == 4


def test_a_plan_knows_that_a_reformatted_dataset_trains_nothing(built: Repo) -> None:
    path = built.records("shared")
    path.write_text(path.read_text(encoding="utf-8").replace(": ", " :  "), encoding="utf-8")
    assert plan(built) == {"validate:shared": "yes", "convert:legal": "yes", "convert:sales": "yes"}
    assert "the records are the same, written otherwise" in built.doit("plan").out


def test_a_plan_says_what_will_fail_and_what_is_behind_it(built: Repo) -> None:
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write('{"instruction": "a"}\n[]\n')
    result = built.doit("plan")
    assert "!  validate:tone " in result.out
    assert "it will fail: datasets/tone.jsonl:4: missing key 'output' [missing-key] (and 1 more)\n" in result.out
    assert "-  register:sales      -  package:sales will fail\n" in result.out
    assert "-  test:sales          -  register:sales will fail\n" in result.out
    assert plan(built)["convert:sales"] == "blocked"


@pytest.mark.parametrize("gone", [("datasets",), ("base.gguf",), ("adapters",), ("datasets", "base.gguf", "adapters", "build")])
def test_a_plan_needs_neither_data_nor_weights_nor_a_server(built: Repo, gone: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in gone:
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).unlink()
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    result = built.doit("plan", "--json")
    assert (result.code, result.err) == (4, "")
    steps = {step["step"]: step for step in json.loads(result.out)["steps"]}
    assert steps["register:legal"]["runs"] in {"yes", "perhaps", "unknown"}
    if "datasets" in gone:
        assert steps["validate:shared"]["runs"] in {"unknown", "yes"}
        assert "datasets/shared.jsonl is not there" in [reason["text"] for reason in steps["validate:shared"]["reasons"]]
        assert {steps[step]["runs"] for step in ("train:legal",) if step in steps} <= {"perhaps", "unknown", "yes"}
    if gone == ("base.gguf",):
        assert steps["train:legal"]["runs"] == "unknown"
        assert [reason["text"] for reason in steps["train:legal"]["reasons"]] == ["base tiny is not there"]


def test_without_a_server_a_plan_does_not_claim_to_know_what_is_registered(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    (known,) = Path(".ollamake/records").glob("127*.json")
    known.rename(known.with_name("gpu-box.invalid_11434.json"))
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    assert plan(built) == dict.fromkeys(("register:legal", "test:legal", "register:sales", "test:sales"), "unknown")
    assert "?  register:legal" in built.doit("plan").out
    assert "nothing answers at http://gpu-box.invalid:11434" in built.doit("plan").out


def test_times_are_those_of_the_past_and_of_trainings_by_records(built: Repo) -> None:
    for name in ("legal", "sales"):
        path = Path(f"adapters/{name}/receipt.json")
        receipt = json.loads(path.read_text(encoding="utf-8"))
        receipt["seconds"] = 60.0 if name == "legal" else 80.0  # for 5 and 8 records, 3 epochs each
        path.write_text(json.dumps(receipt), encoding="utf-8")
    Path("datasets/shared.jsonl").write_text(
        jsonl(*({"instruction": f"Question {number}?", "output": "Yes."} for number in range(10))), encoding="utf-8"
    )
    with Path("models.yaml").open("a", encoding="utf-8") as file:
        file.write("  third: {base: tiny, data: [shared], train: {epochs: 6}}\n")
    facts = json.loads(built.doit("plan", "--json").out)
    seconds = {step["step"]: step["seconds"] for step in facts["steps"]}
    assert seconds["train:legal"] == 120.0  # twice the records
    assert seconds["train:sales"] == 130.0  # 13 instead of 8
    assert seconds["train:third"] == pytest.approx(60 * (60 / 15 + 80 / 24) / 2, abs=0.1)  # never trained: as the others do
    assert (facts["trainings"], facts["trainings_at_most"], facts["complete"]) == (3, 3, True)
    assert facts["seconds"] == pytest.approx(sum(step["seconds"] for step in facts["steps"] if step["runs"] == "yes"), abs=0.1)
    assert facts["seconds_at_most"] >= facts["seconds"]


def test_the_last_line_says_what_did_not_have_to_be_trained(built: Repo) -> None:
    for name, seconds in (("legal", 11400.0), ("sales", 0.2)):
        path = Path(f"adapters/{name}/receipt.json")
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "seconds": seconds}), encoding="utf-8")
    assert built.doit().out == "2 models: 2 fresh; 3 h 10 min of training reused\n"
    assert built.doit().out == "2 models: 2 fresh; 3 h 10 min of training reused\n"  # sealed
    built.replace("Gladly not 1.", "No.", "datasets/tone.jsonl")
    assert re.search(r"\n2 models: 1 fresh, 1 rebuilt in [0-9.]+ s; 3 h 10 min of training reused\n$", built.doit().out)


def test_why_and_history_tell_which_machine_has_trained(repo: Repo) -> None:
    assert repo.doit("train").code == 0
    path = Path("adapters/legal/receipt.json")
    receipt = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**receipt, "outcome": {**receipt["outcome"], "where": "ray 10.0.0.3"}}), encoding="utf-8")
    assert [step for step in repo.doit().ran if step.startswith("train:")] == []
    told = shown(repo.doit("why", "legal").out)
    assert "train:legal\n    last  THEN, TIME on ray 10.0.0.3: not built yet\n    next  fresh\n" in told
    assert "\n    trained   THEN on ray 10.0.0.3\n" in told
    assert "; trained on ray 10.0.0.3" in repo.doit("history", "legal").out
    assert "ray" not in repo.doit("why", "sales").out.partition("values\n")[0]


def test_why_tells_the_last_run_the_next_and_where_a_model_comes_from(built: Repo) -> None:
    path = built.records("tone")
    path.write_text(path.read_text(encoding="utf-8").replace("Gladly not 1.", "No.") + jsonl({"instruction": "a", "output": "b"}), encoding="utf-8")
    assert built.doit().code == 0
    built.replace("data: [shared, tone]\n", "data: [shared, tone]\n    train: {learning_rate: 1e-4}\n")
    result = built.doit("why", "sales")
    assert (result.code, result.err) == (0, "")
    told, _, values = shown(result.out).partition("values\n")
    assert told.splitlines() == [
        "sales: not up to date",
        "validate:shared",
        "    last  THEN, TIME: not built yet",
        "    next  fresh",
        "validate:tone",
        "    last  THEN, TIME: datasets/tone.jsonl: 1 record added, 1 changed (line 2: output)",
        "    next  fresh",
        "convert:sales",
        "    last  THEN, TIME: build/datasets/tone.json changed; datasets/tone.jsonl changed",
        "    next  fresh",
        "train:sales",
        "    last  THEN, TIME: build/sales/text.jsonl changed",
        "    next  train.learning_rate: 2e-4 -> 1e-4 (models.yaml:16)",
        "package:sales",
        "    last  THEN, TIME: adapters/sales/adapter_model.safetensors changed",
        "    next  perhaps: train:sales will run; packages unless its adapter comes out the same",
        "register:sales",
        "    last  THEN, TIME: build/sales/served.json changed",
        "    next  perhaps: package:sales may run; registers unless its GGUF comes out the same",
        "test:sales",
        "    last  THEN, TIME: sales:candidate changed",
        "    next  perhaps: register:sales may run; tests unless its model comes out the same",
        "registered now",
        "    model     sales:latest DIGEST",
        f"    on        http://{built.server.host}, Ollama 0.9.3, as a GGUF LoRA",
        "    base      tiny DIGEST",
        "    dataset   shared: 5 records, DIGEST",
        "    dataset   tone: 4 records, DIGEST",
        "    recipe    alpha 4.0; batch_size 4; epochs 3; learning_rate 2e-4; max_tokens 2048; rank 2; seed 42; target_modules q_proj",
        "    trainer   command",
        "    trained   THEN",
        "    took      convert TIME, train TIME, package TIME, register TIME, test TIME",
        "    tested    2 tests passed, THEN",
    ]
    assert [line.split() for line in values.splitlines() if "default" not in line and "train.command" not in line] == [
        ["base", '"tiny"', "models.yaml:14"],
        ["data", '["shared",', '"tone"]', "models.yaml:15"],
        ["train.trainer", '"command"', "models.yaml:3"],
        ["train.learning_rate", "1e-4", "models.yaml:16"],
        ["train.rank", "2", "models.yaml:3"],
        ["train.target_modules", '["q_proj"]', "models.yaml:3"],
        ["serve.parameters.temperature", "0.2", "models.yaml:17"],
    ]


def test_why_tells_of_removed_records_of_a_removed_key_and_of_a_model_that_is_gone(built: Repo) -> None:
    lines = built.records("shared").read_text(encoding="utf-8").splitlines(keepends=True)
    built.records("shared").write_text("".join(reversed(lines[2:])), encoding="utf-8")
    built.replace("    serve: {parameters: {temperature: 0.2}}\n", "")
    del built.server.models["sales:latest"]
    out = built.doit("why", "sales").out
    assert "    next  datasets/shared.jsonl: 2 records removed\n" in out
    assert f'    next  sales is no longer on http://{built.server.host}; serve.parameters: {{"temperature": 0.2}} -> {{}}' in out
    assert f"not known to be registered: sales on http://{built.server.host} is gone or was replaced by hand" in out
    facts = json.loads(built.doit("why", "sales", "legal", "--json").out)
    assert [model["model"] for model in facts] == ["sales", "legal"]
    assert (facts[0]["registered"]["there"], facts[1]["registered"]["there"]) == (False, True)
    assert facts[1]["registered"]["data"] == [
        {"name": "shared", "records": 5, "digest": json.loads(Path("build/datasets/shared.json").read_text(encoding="utf-8"))["digest"]}
    ]


def test_why_says_at_which_commit_it_was_built(repo: Repo) -> None:
    from test_lock import git

    git("init")
    Path(".gitignore").write_text("/build/\n/.ollamake/\n/adapters/\n/models.lock\n/trainings.log\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")
    repo.doit()
    commit = git("rev-parse", "HEAD").strip()
    assert f"    commit    {commit}\n" in repo.doit("why", "legal").out
    repo.replace("Answer 1.", "One.", "datasets/shared.jsonl")
    repo.doit()
    assert f"    commit    {commit}, with edits since\n" in repo.doit("why", "legal").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("why",), "usage: doit why SELECTOR..."),
        (("why", "leagl"), "\nno model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("plan", "leagl"), "\nno model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("build", "leagl"), "\nno model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("plan", "x*"), "\nno model 'x*' in the catalog\n  fix: known: legal, sales"),
        (("build", "--max-train-minutes"), "\ndoit build: option --max-train-minutes requires argument\n  fix: `doit help build` lists the options"),
        (("plan", "--jsno"), "\ndoit plan: unknown option --jsno\n  fix: write --json (`doit help plan` lists the options)"),
        (("accept", "legal"), 'usage: doit accept SELECTOR... --because "TEXT"'),
        (("accept", "--because", "why not"), 'usage: doit accept SELECTOR... --because "TEXT"'),
    ],
)
def test_mistakes_in_a_command_are_said(built: Repo, arguments: tuple[str, ...], said: str) -> None:
    result = built.doit(*arguments)
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: {said}\n")


def test_a_plan_of_what_fails_at_once_does_not_say_how_long_it_takes(repo: Repo) -> None:
    repo.records("shared").write_text("no record\n", encoding="utf-8")
    assert repo.doit("plan", "legal").out.splitlines()[-1] == "1 step will run; how long it takes, the past does not tell"


def test_build_takes_names_patterns_and_tasks(repo: Repo) -> None:
    assert repo.doit("build", "legal").ran == ["validate:shared", "convert:legal", "train:legal", "package:legal", "register:legal", "test:legal"]
    assert repo.doit("build", "convert:sales").ran == ["validate:tone", "convert:sales"]
    assert repo.doit("build", "sal*").ran == ["train:sales", "package:sales", "register:sales", "test:sales"]
    assert without_times(repo.doit("build").out) == "2 models: 2 fresh\n"


def test_a_build_refuses_trainings_that_would_take_too_long(built: Repo) -> None:
    path = Path("adapters/legal/receipt.json")
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "seconds": 600.0}), encoding="utf-8")
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    for most in ("9", "0"):
        result = built.doit("build", "--max-train-minutes", most)
        assert (result.code, result.out) == (3, "")
        assert result.err == (
            f"ERROR: \nthis build would train for about 10 min 0 s, and --max-train-minutes allows {most} min:\n"
            "    train:legal: 10 min 0 s\n"
            "  fix: `doit plan` says why they are to run; leave --max-train-minutes out to run them\n"
        )
    assert built.doit("build", "sales", "--max-train-minutes", "0").code == 0
    assert built.trainings == ["legal", "sales"]
    assert built.doit("build", "--max-train-minutes", "10").code == 0
    assert built.trainings == ["legal", "sales", "legal"]
    assert built.doit("build", "--max-train-minutes", "0").code == 0  # nothing is to be trained


def test_a_build_refuses_a_training_of_unknown_length(repo: Repo) -> None:
    result = repo.doit("build", "legal", "--max-train-minutes", "100")
    assert result.code == 3
    assert "this build would train for nobody knows how long, and --max-train-minutes allows 100 min:\n    train:legal: nobody knows\n" in result.err
    assert repo.trainings == []


def test_accept_takes_an_adapter_after_an_edit_that_changes_nothing(built: Repo) -> None:
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {epochs: 4}\n")
    built.replace("Answer 1.", "Answer 1!", "datasets/shared.jsonl")
    result = built.doit("accept", "legal", "--because", "a full stop is an exclamation mark")
    assert (result.code, result.err) == (0, "")
    assert result.ran == ["validate:shared", "convert:legal"]
    assert "train:legal is taken as built from what is there now: a full stop is an exclamation mark\n" in result.out
    assert json.loads(Path("models.lock").read_text(encoding="utf-8"))["train:legal"]["accepted"] == "a full stop is an exclamation mark"
    assert "train:legal" not in built.doit().ran
    assert built.trainings == ["legal", "sales", "sales"]
    assert "    last  " in (out := built.doit("why", "legal").out)
    assert ": accepted: a full stop is an exclamation mark\n" in out
    assert built.doit("accept", "legal", "--because", "x").out.endswith("train:legal is fresh: nothing to accept\n")


def test_accept_takes_an_adapter_that_was_trained_elsewhere(repo: Repo) -> None:
    from test_lora import adapter_tensors, write_adapter

    Path("adapters").mkdir()
    write_adapter(Path("adapters/legal"), adapter_tensors())
    assert repo.doit("accept", "legal", "--because", "trained on the big machine").code == 0
    result = repo.doit("build", "legal")
    assert result.ran == ["package:legal", "register:legal", "test:legal"]
    assert repo.trainings == []
    assert "    accepted  trained on the big machine\n" in repo.doit("why", "legal").out
    repo.replace("Answer 1.", "Another.", "datasets/shared.jsonl")
    assert repo.doit("build", "legal").code == 0
    assert repo.trainings == ["legal"]  # it was accepted for what was there then


def test_accept_refuses_what_does_not_fit(repo: Repo) -> None:
    from test_lora import adapter_tensors, write_adapter

    result = repo.doit("accept", "legal", "--because", "x")
    assert result.code == 3
    assert "adapters/legal/adapter_config.json: no such file\nadapters/legal/adapter_model.safetensors: no such file\n  fix: " in result.err
    Path("adapters").mkdir()
    write_adapter(Path("adapters/legal"), {name.replace("layers.0", "layers.7"): tensor for name, tensor in adapter_tensors().items()})
    result = repo.doit("accept", "legal", "--because", "x")
    assert (result.code, "the base has no module" in result.err) == (3, True)
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    result = repo.doit("accept", "legal", "--because", "x")
    assert (result.code, "model 'legal' is not trained here\n  fix: nothing to accept: mine is taken as it is" in result.err) == (3, True)


def test_a_new_version_of_a_trainer_trains_only_where_it_is_pinned(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.trainers.command import CommandTrainer

    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "1"})  # a package of somebody else's is installed anew
    assert built.doit().ran == []
    built.replace("rank: 2,", "rank: 2, pin: versions,")
    assert "train:legal" in built.doit().ran  # it was not known what it was trained with
    assert json.loads(Path("models.lock").read_text(encoding="utf-8"))["train:legal"]["versions"] == {"train": 1, "engine": "1"}
    assert built.doit().ran == []
    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "2"})
    assert ".  train:legal  (version of engine: 1 -> 2)\n" in built.doit().out
    built.replace("rank: 2, pin: versions,", "rank: 2,")
    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "3"})
    built.doit()
    assert built.doit().ran == []


def test_why_shows_the_versions_that_trained(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.trainers.command import CommandTrainer

    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "1", "maths": "2.3"})
    repo.doit()
    assert "    versions  engine 1, maths 2.3\n" in repo.doit("why", "legal").out


def test_the_limit_counts_all_that_would_train(built: Repo) -> None:
    for arguments in (("-a",), ("-a", "legal"), ("-a", "validate:shared", "train:sales")):
        result = built.doit("build", "--max-train-minutes", "0", *arguments)
        assert (result.code, "this build would train for about " in result.err) == (3, True)
    built.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    for arguments in (("train",), ("legal", "train"), ("package:sales",)):
        result = built.doit("build", *arguments, "--max-train-minutes", "0")
        assert (result.code, "\n    train:sales: " in result.err, "train:legal" in result.err) == (3, True, False)
    for arguments in (("legal",), ("validate:tone",), ("convert",)):
        assert built.doit("build", *arguments, "--max-train-minutes", "0").code == 0
    assert built.trainings == ["legal", "sales"]


def test_how_to_go_on_repeats_what_was_typed(repo: Repo) -> None:
    repo.records("shared").write_text("no record\n", encoding="utf-8")
    out = repo.doit("--continue", "-v", "2", "train:legal", "train:sales").out
    assert "\nfailed: validate:shared: datasets/shared.jsonl:1: not JSON: " in out
    assert "\nthen go on with: doit --continue -v 2 train:legal train:sales\n" in out
    out = repo.doit("accept", "legal", "--because", "it's the same").out
    assert "then go on with: doit accept legal --because 'it'\"'\"'s the same'\n" in out


@pytest.mark.parametrize("command", ["plan", "why"])
def test_where_something_else_answers_a_look_says_so(built: Repo, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.server_port}")
    try:
        result = built.doit(command, "legal")
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith(f"ERROR: \nhttp://127.0.0.1:{server.server_port} answers, but it is not an Ollama\n  fix: ")
        result = built.doit()
        assert ".  package:legal  (it can't be seen whether it is fresh)\n" in result.out
        assert result.code == 1
    finally:
        server.shutdown()
        server.server_close()


def test_a_pin_alone_trains_nothing(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.trainers.command import CommandTrainer

    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "1"})
    repo.doit()
    repo.replace("rank: 2,", "rank: 2, pin: versions,")
    assert repo.doit().ran == []
    repo.replace("rank: 2, pin: versions,", "rank: 2,")
    assert repo.doit().ran == []


def test_always_trains_even_where_only_the_receipt_knows_the_adapter(built: Repo) -> None:
    Path("models.lock").unlink()
    built.doit("validate", "convert")
    assert built.doit("-a", "-s", "train:legal").ran == ["train:legal"]
    assert built.trainings == ["legal", "sales", "legal"]


def test_a_plan_of_default_tasks_is_the_run_of_these(built: Repo) -> None:
    import subprocess
    import sys

    from conftest import DODO

    Path("dodo.py").write_text(DODO + '\nDOIT_CONFIG = {**DOIT_CONFIG, "default_tasks": ["train:legal"]}\n', encoding="utf-8")
    built.replace("rank: 2,", "rank: 3,")
    plan = subprocess.run([sys.executable, "-m", "doit", "plan", "--json"], capture_output=True, text=True, check=False)
    assert [step["step"] for step in json.loads(plan.stdout)["steps"]] == ["train:legal"]
    limited = subprocess.run([sys.executable, "-m", "doit", "build", "--max-train-minutes", "0"], capture_output=True, text=True, check=False)
    assert ("train:legal" in limited.stderr, "train:sales" in limited.stderr) == (True, False)
    done = subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=False)
    assert "train:sales" not in done.stdout
    assert built.trainings == ["legal", "sales", "legal"]


@pytest.mark.parametrize("most", ["nan", "-1", "soon"])
def test_a_limit_that_is_none(built: Repo, most: str) -> None:
    result = built.doit("build", f"--max-train-minutes={most}")
    assert (result.code, "Traceback" in result.err) == (3, False)
