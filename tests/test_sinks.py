"""Trainings are told to MLflow, to Weights & Biases and to what other packages provide; none of it slows or fails a build."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from conftest import DODO, Repo
from ollamake.catalog.outside import SinkPlace
from ollamake.errors import BuildError, Mark
from ollamake.sinks import feed, port
from ollamake.sinks import feeder as of_feeder
from ollamake.sinks.feeder import Feeder, Told
from stepping_repo import steps

PLUGIN = '''\
import json, os, time

class Diary:
    """Writes down what it is told; behaves as its options say."""

    def __init__(self, options):
        self.options = options

    def write(self, what, *facts):
        with open("diary", "a") as file:
            file.write(json.dumps([what, *facts]) + "\\n")

    def fail(self, where):
        if self.options.get("fails") == where:
            self.options["fails"] = self.options.get("then")
            raise RuntimeError("no " + where)

    def begin(self, run):
        if self.options.get("fails") == "begin":
            raise RuntimeError("nobody at home: " + os.environ["DIARY_TOKEN"])
        self.id = run.id or "run of " + run.name
        self.write("begin", run.name, run.id, dict(run.params), dict(run.tags))
        return self.id

    def points(self, points):
        self.fail("points")
        if self.options.get("hangs"):
            time.sleep(600)
        self.write("points", [[point.step, dict(point.values)] for point in points])

    def note(self, facts):
        self.write("note", self.id, dict(facts))

    def end(self, outcome):
        self.fail("end")
        if outcome and outcome.state == "killed" and self.options.get("hangs"):
            time.sleep(600)
        self.write("end", outcome and [outcome.state, outcome.reason, dict(outcome.facts)])
'''


def with_diary(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Repo:
    plugins = repo.path / "sink-plugins"
    info = plugins / "diary-1.0.dist-info"
    info.mkdir(parents=True)
    (plugins / "diary_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: diary\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.sinks]\ndiary = diary_plugin:Diary\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(plugins))
    monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=os.pathsep)
    port.sink_names.cache_clear()
    told_to(repo, "{diary: {}}")
    return repo


def told_to(repo: Repo, sinks: str) -> None:
    path = repo.path / "models.yaml"
    text = re.sub(r"^sinks: .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text.replace("version: 1\n", f"version: 1\nsinks: {sinks}\n", 1), encoding="utf-8")


@pytest.fixture
def diary(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    yield with_diary(repo, monkeypatch)
    port.sink_names.cache_clear()


@pytest.fixture
def of_steps(stepping: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    """The same, of trainings that can go on."""
    yield with_diary(stepping, monkeypatch)
    port.sink_names.cache_clear()


def written(repo: Repo, what: str = "") -> list[list[Any]]:
    path = repo.path / "diary"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [line[1:] if what else line for line in lines if line[0] == what or not what]


def test_a_sink_is_told_of_a_training_and_of_its_tests(diary: Repo) -> None:
    assert diary.doit("test:legal").code == 0
    assert [line[0] for line in written(diary)] == ["begin", "points", "end", "begin", "note", "end"]
    ((name, before, params, tags), (_, again, *_)) = written(diary, "begin")
    assert (name, before, again) == ("legal", None, "run of legal")
    assert (params["base"], params["data"], params["train.rank"], params["train.trainer"]) == ("tiny", "shared (5)", 2, "command")
    assert set(tags) == {"model", "base digest", "text digest"}
    assert written(diary, "points") == [[[[2, {"loss": 0.5, "tokens_per_second": 10.0}]]]]
    ((state, reason, facts),) = [line[0] for line in written(diary, "end")][:1]
    receipt = json.loads((diary.path / "adapters/legal/receipt.json").read_text(encoding="utf-8"))
    assert (state, reason) == ("finished", "")
    assert facts == {"seconds": receipt["seconds"], "adapter": receipt["record"]["targets"]["adapters/legal/adapter_model.safetensors"]}
    ((run, found),) = written(diary, "note")
    assert (run, found["tests"], found["tests_failed"]) == ("run of legal", "passed", 0)


def test_a_training_that_other_words_run_is_told(diary: Repo) -> None:
    diary.replace("rank: 2,", "rank: 2, launch: [env],")
    assert diary.doit("train:legal").code == 0
    assert [line[0] for line in written(diary)] == ["begin", "points", "end"]


def test_a_sink_decides_nothing(diary: Repo) -> None:
    assert diary.doit().code == 0
    told_to(diary, "{diary: {other: value}}")
    result = diary.doit()
    assert (result.code, result.ran) == (0, [])


def test_nothing_is_told_of_a_model_that_is_not_trained(diary: Repo) -> None:
    assert diary.doit("test:legal").code == 0
    (diary.path / "diary").unlink()
    diary.replace("data: [shared]\n", "data: [shared]\n    serve: {parameters: {top_k: 3}}\n")
    assert diary.doit("test:legal").code == 0
    assert [line[0] for line in written(diary)] == ["begin", "note", "end"]  # of the tests, in the run of the training
    assert written(diary, "end") == [[None]]


def test_a_training_that_fails_is_told_with_its_reason(diary: Repo) -> None:
    diary.replace("counting_trainer.py", "no_trainer.py")
    assert diary.doit("train:legal").code == 1
    ((state, reason, _),) = (line[0] for line in written(diary, "end"))
    assert state == "failed"
    assert reason == "models.yaml:11: model 'legal': trainer 'command' ended with exit code 2; build/legal/train.log ends:"


def test_a_training_that_goes_on_goes_on_in_its_run(of_steps: Repo) -> None:
    (of_steps.path / "die").write_text("3 fail", encoding="utf-8")
    assert of_steps.doit("train:legal").code == 1
    assert of_steps.doit("train:legal").code == 0
    steps()
    assert [line[1] for line in written(of_steps, "begin")] == [None, "run of legal"]
    assert [point[0] for line in written(of_steps, "points") for point in line[0]] == [1, 2, 3, 4]
    assert [line[0][0] for line in written(of_steps, "end")] == ["failed", "finished"]


def test_a_killed_build_ends_its_sink_and_the_run_is_gone_on_with(of_steps: Repo) -> None:
    (of_steps.path / "die").write_text("2 build", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "train:legal"], cwd=of_steps.path, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 60
    while not written(of_steps, "end") and time.monotonic() < end:
        time.sleep(0.05)
    assert [line[0][0] for line in written(of_steps, "end")] == ["killed"]
    assert of_steps.doit("train:legal").code == 0
    assert [line[1] for line in written(of_steps, "begin")] == [None, "run of legal"]


def test_a_sink_that_fails_is_warned_of_once_without_what_is_secret(diary: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_TOKEN", "hf_very_secret")
    told_to(diary, "{diary: {fails: begin}}")
    result = diary.doit()
    assert result.code == 0
    assert diary.trainings == ["legal", "sales"]
    assert result.out.count("sink diary") == 1, result.out
    assert (
        "   sink diary: warning: nobody at home: ***\n  fix: look after it, or remove sinks.diary from the catalog; the training goes on without it\n"
        in result.out
    )


@pytest.mark.parametrize("where", ["points", "end"])
def test_what_a_sink_fails_to_take_it_is_told_again(diary: Repo, where: str) -> None:
    told_to(diary, f"{{diary: {{fails: {where}}}}}")
    result = diary.doit("test:legal")
    assert (result.code, result.out.count("sink")) == (0, 0), result.out
    assert [line[0] for line in written(diary)] == ["begin", "points", "end", "begin", "note", "end"]


@pytest.mark.parametrize("where", ["points", "end"])
def test_what_a_sink_fails_to_take_at_last_is_said(diary: Repo, where: str) -> None:
    told_to(diary, f"{{diary: {{fails: {where}, then: {where}}}}}")
    result = diary.doit("test:legal")
    assert result.code == 0
    assert result.out.count(f"   sink diary: warning: no {where}\n") == 1
    assert "end" not in [line[0] for line in written(diary)]


class Taking:
    """A sink that keeps the steps that it is told of, and fails as often as it is to."""

    def __init__(self, fails: int = 0) -> None:
        self.fails, self.steps = fails, list[int]()

    def points(self, points: Sequence[port.Point]) -> None:
        if self.fails:
            self.fails -= 1
            msg = "it is full"
            raise OSError(msg)
        self.steps.extend(point.step for point in points)


def told_of(sink: Taking, events: Path, steps: int) -> Told:
    line = {"time": "2026-01-01T00:00:00Z", "event": "step", "loss": 0.5, "learning_rate": 2e-4, "tokens_per_second": 10.0}
    events.write_text("".join(f"{json.dumps({**line, 'step': step})}\n" for step in range(steps)) + '{"torn', encoding="utf-8")
    return Told(sink=cast("port.Sink", sink), run={}, events=events, at=0, memory=events.with_name("memory"), facts={})


def test_of_many_events_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_feeder, "REST", 0.0)
    sink, feeder = Taking(fails=2), Feeder("taking", {}, lambda _: None)
    feeder.told["bot"] = told_of(sink, tmp_path / "events.jsonl", 20_000)
    for _ in range(4):
        feeder.look()
    assert sink.steps == [*range(20_000)]


def test_a_sink_that_fails_is_left_alone_for_a_while(tmp_path: Path) -> None:
    warnings: list[dict[str, Any]] = []
    feeder = Feeder("taking", {}, warnings.append)
    feeder.told = {"fails": told_of(sink := Taking(fails=9), tmp_path / "events.jsonl", 1)}
    for _ in range(9):
        feeder.look()
    assert (sink.fails, warnings) == (8, [])


def test_a_sink_that_fails_is_given_up_whatever_rests_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_feeder, "REST", 0.0)
    warnings: list[dict[str, Any]] = []
    feeder = Feeder("taking", {}, warnings.append)
    feeder.told = {"rests": told_of(Taking(), tmp_path / "none.jsonl", 1), "fails": told_of(Taking(fails=9), tmp_path / "events.jsonl", 1)}
    feeder.told["rests"].at = (tmp_path / "none.jsonl").stat().st_size
    for _ in range(9):
        feeder.look()
    assert [warning["warning"] for warning in warnings] == ["it is full"]


def test_a_training_is_told_from_its_begin_when_the_sink_is_back(diary: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_TOKEN", "hf_very_secret")
    warnings: list[dict[str, Any]] = []
    told, options = told_of(Taking(), diary.path / "events.jsonl", 1), {"fails": "begin"}
    feeder = Feeder("diary", options, warnings.append)
    run = {"name": "bot", "params": {}, "tags": {}, "folder": "build/bot"}
    feeder.take({"do": "begin", "training": "bot", "run": run, "events": str(told.events), "at": 0, "memory": str(told.memory)})
    feeder.look()  # it rests
    options.clear()
    feeder.look()
    assert written(diary) == []
    feeder.take({"do": "end", "training": "bot", "outcome": {"state": port.FINISHED}})
    assert ([line[0] for line in written(diary)], warnings) == (["begin", "points", "end"], [])


def test_a_warning_of_a_sink_is_a_warning_to_quiet_runs_too(diary: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIARY_TOKEN", "hf_very_secret")
    told_to(diary, "{diary: {fails: begin}}")
    assert "sink diary: warning: nobody at home" in diary.doit("run", "--quiet", "train:legal").out


def test_what_lies_in_a_sink_s_way_fails_no_training(diary: Repo) -> None:
    (diary.path / "build/legal/sink-diary.json/in the way").mkdir(parents=True)
    result = diary.doit("train:legal")
    assert (result.code, diary.trainings) == (0, ["legal"]), result.out
    assert f"sink diary: warning: {diary.path}/build/legal/sink-diary.json: Is a directory\n  fix: the training goes on without it\n" in result.out


def test_no_secret_goes_to_a_sink(diary: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_BOX_TOKEN", "correct horse")
    key = f"hf_{'a' * 34}"
    diary.replace('"{recipe}"]', f'"{{recipe}}", "{key}"]')
    diary.doit("train:legal")
    assert written(diary, "begin")
    places = [SinkPlace(name="diary", options={}, mark=Mark("models.yaml", 2))]
    run = {"name": "bot", "params": {}, "tags": {}, "folder": "build/bot"}
    error = BuildError(f"models.yaml:3: no pull with {key}, nor with correct horse, from https://me:secret@host/x?key=1\nIts log:")
    with pytest.raises(BuildError), feed.told(places, "bot", lambda: run, diary.path / "build/bot/events.jsonl", goes_on=False):
        raise error
    feed.close()
    assert written(diary, "end")[-1] == [["failed", "models.yaml:3: no pull with hf_a..., nor with ***, from https://host/x", {}]]
    assert key not in (diary.path / "diary").read_text(encoding="utf-8")


def test_a_sink_that_hangs_is_not_waited_for(diary: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAIT", 0.5)
    told_to(diary, "{diary: {hangs: true}}")
    result = diary.doit("train:legal")
    assert (result.code, diary.trainings) == (0, ["legal"])
    assert result.out.count("sink diary: warning: it did not take all within 0.5 s") == 1


def test_by_a_signal_a_run_ends_whatever_its_sinks_do(diary: Repo) -> None:
    told_to(diary, "{diary: {hangs: true}}")
    line = next(line for line in (diary.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: "))
    diary.replace(line, "  train: {trainer: command, command: [sleep, '60']}")
    (diary.path / "dodo.py").write_text(DODO, encoding="utf-8")
    build = subprocess.Popen([sys.executable, "-m", "doit", "train:legal"], cwd=diary.path, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not written(diary, "begin") and time.monotonic() < end:
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    out, _ = build.communicate()
    assert (build.returncode, out.count("sink")) == (130, 0), out


def test_a_library_that_is_not_installed_is_said_once(diary: Repo) -> None:
    (diary.path / "sink-plugins/diary_plugin.py").write_text("import no_such_library\n", encoding="utf-8")
    result = diary.doit()
    assert result.code == 0
    what = "   sink diary: warning: its library is not installed (No module named 'no_such_library')\n  fix: pip install 'ollamake[diary]', or remove sinks.diary\n"
    assert result.out.count(what) == 1


def test_several_processes_tell_each_for_itself(diary: Repo) -> None:
    (diary.path / "dodo.py").write_text(DODO, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "-n", "2"], cwd=diary.path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ended = [line[0][0] for line in written(diary, "end") if line[0]]
    assert ended == ["finished", "finished"]


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ("{mlflw: {}}", "models.yaml:2: sinks: unknown sink 'mlflw'\n  fix: write 'mlflow'"),
        (
            "{mlflow: {uri: 'https://me:secret@tracking.example'}}",
            "models.yaml:2: sinks.mlflow.uri: a password has no place in it\n"
            "  fix: leave it out: credentials come from the environment, or where its library looks for them\n",
        ),
        ("{mlflow: {url: 'http://a.example/x'}}", "models.yaml:2: sinks.mlflow: unknown key 'url'\n  fix: write 'uri'"),
    ],
)
def test_what_is_wrong_with_sinks_is_said_at_its_line(repo: Repo, sinks: str, said: str) -> None:
    told_to(repo, sinks)
    result = repo.doit()
    assert result.code == 3
    assert said in result.err
    assert "secret" not in result.err


def test_of_two_catalogs_each_has_its_own_options(diary: Repo) -> None:
    text = (diary.path / "models.yaml").read_text(encoding="utf-8")
    text = re.sub(r"legal|sales|shared(?!\.jsonl)|tone(?!\.jsonl)", r"other-\g<0>", text)
    (diary.path / "b.yaml").write_text(text.replace("{diary: {}}", "{diary: {fails: points, then: points}}"), encoding="utf-8")
    (diary.path / "dodo.py").write_text(f"{DODO}    yield from tasks_from('b.yaml')\n", encoding="utf-8")
    words = [sys.executable, "-m", "doit", "train:legal", "train:other-legal"]
    done = subprocess.run(words, cwd=diary.path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("sink diary: warning: no points")) == (0, 1), done.stdout + done.stderr
    assert len(written(diary, "end")) == 1


def test_sinks_are_those_of_the_first_catalog(repo: Repo) -> None:
    (repo.path / "more.yaml").write_text("version: 1\nsinks: {mlflow: {}}\n", encoding="utf-8")
    repo.replace("version: 1\n", "version: 1\ninclude: [more.yaml]\n")
    result = repo.doit()
    assert "more.yaml:2: the list of sinks is one for all catalogs\n  fix: move it to models.yaml\n" in result.err


def test_mlflow_has_the_training(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'ollamake[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("SOME_TOKEN", "hf_very_secret")
    store = repo.path / "mlruns"
    told_to(repo, f"{{mlflow: {{uri: 'file://{store}', experiment: bots, tags: {{team: law}}}}}}")
    result = repo.doit("test:legal")
    assert (result.code, result.out.count("sink")) == (0, 0), result.out
    client = mlflow.MlflowClient(tracking_uri=f"file://{store}")
    (run,) = client.search_runs([client.get_experiment_by_name("bots").experiment_id])
    assert (run.info.run_name, run.info.status) == ("legal", "FINISHED")
    assert {run.data.params[key] for key in ("train.rank", "base", "data")} == {"2", "tiny", "shared (5)"}
    assert (run.data.metrics["loss"], run.data.metrics["tests_failed"]) == (0.5, 0.0)
    assert [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss")] == [(2, 0.5)]
    assert run.data.tags["team"] == "law"
    assert run.data.tags["ollamake.tests"] == "passed"
    assert run.data.tags["ollamake.adapter"].startswith("sha256:")
    assert not [path for path in store.rglob("*") if path.is_file() and "hf_very_secret" in path.read_text(encoding="utf-8")]


def test_a_run_that_mlflow_has_no_more_is_begun_anew(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'ollamake[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(tracking_uri=f"file://{repo.path}/mlruns")
    run = port.TrainingRun(name="legal", params={}, tags={}, folder="build/legal")
    sink = port.sink("mlflow", {"uri": f"file://{repo.path}/mlruns"})
    id_ = sink.begin(run)
    assert sink.begin(replace(run, id=id_)) == id_
    client.delete_run(id_)
    for gone in (id_, "0" * 32):
        assert sink.begin(replace(run, id=gone)) not in {gone, id_}
    memory, warnings = repo.path / "memory", list[dict[str, Any]]()
    memory.write_text(json.dumps({"id": id_, "adapter": "sha256:1"}), encoding="utf-8")
    feeder = Feeder("mlflow", {"uri": f"file://{repo.path}/mlruns"}, warnings.append)
    for passed in (1, 2):  # two tests later, there is one run more
        said = {"name": "legal", "params": {}, "tags": {}, "folder": "build/legal"}
        feeder.take({"do": "note", "run": said, "memory": str(memory), "adapter": "sha256:1", "facts": {"tests_passed": passed}})
        feeder.look()
    runs = client.search_runs([client.get_run(id_).info.experiment_id])
    assert (len(runs), [run.data.metrics for run in runs if run.data.metrics], warnings) == (3, [{"tests_passed": 2.0}], [])


def test_wandb_has_the_training(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'ollamake[wandb]'")
    monkeypatch.setenv("SOME_TOKEN", "hf_very_secret")
    monkeypatch.setenv("WANDB_HOST", "name-of-this-machine")
    told_to(repo, "{wandb: {project: bots, mode: offline}}")
    result = repo.doit("train:legal")
    assert (result.code, result.out.count("sink")) == (0, 0), result.out
    (folder,) = (repo.path / "build/legal/wandb").glob("offline-run-*")
    (records,) = folder.glob("*.wandb")
    found = records.read_bytes()
    for text in (b"bots", b"legal", b"train.rank", b"text digest", b"loss", b"sha256:"):
        assert text in found
    assert b"name-of-this-machine" not in found
    assert not [path for path in folder.rglob("*") if path.is_file() and b"hf_very_secret" in path.read_bytes()]
    assert not list(folder.rglob("requirements.txt"))
