"""A real MLflow server is told of trainings: what it has of them then, and what becomes of a build whose server is killed, hangs, or lets nobody in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import DODO, Repo
from mlflow_server import PASSWORD, USER, MlflowServer
from ollamake.sinks import feed
from stepping_repo import steps
from test_sinks import told_to

pytestmark = pytest.mark.thorough
# Tells of a step, and trains when it may.
TRAINER = """\
import json, sys, time
from pathlib import Path
sys.argv = [{counting!r}, *sys.argv[1:]]
print(json.dumps({{"event": "step", "step": 1, "steps": 2, "loss": 1.0}}), flush=True)
while not Path("go").exists():
    time.sleep(0.1)
exec(Path(sys.argv[0]).read_text())
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One to be killed; not started."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.end()


def told(repo: Repo, server: MlflowServer, experiment: str) -> None:
    told_to(repo, f"{{mlflow: {{uri: '{server.url}', experiment: {experiment}, tags: {{team: law}}}}}}")


def test_a_server_has_the_training(repo: Repo, running: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hf_very_secret")
    told(repo, running, "whole")
    result = repo.doit("test:legal")
    assert (result.code, result.out.count("sink")) == (0, 0), result.out
    (run,) = running.runs("whole")
    assert (run["name"], run["status"]) == ("legal", "FINISHED")
    assert (run["params"]["train.rank"], run["params"]["base"], run["params"]["data"]) == ("2", "tiny", "shared (5)")
    assert running.history(run["id"], "loss") == [(2, 0.5)]
    assert (run["metrics"]["tests_failed"], run["tags"]["ollamake.tests"], run["tags"]["team"]) == (0.0, "passed", "law")
    assert run["tags"]["ollamake.adapter"].startswith("sha256:")
    assert run["end"] >= run["start"]
    assert running.ask("artifacts/list", run_id=run["id"]).get("files", []) == []
    assert repo.doit("test:legal").ran == []
    assert len(running.runs("whole")) == 1
    repo.replace("rank: 2,", "rank: 4,")
    assert repo.doit("test:legal").code == 0
    assert [run["params"]["train.rank"] for run in running.runs("whole")] == ["2", "4"]


def test_a_training_that_goes_on_goes_on_in_its_run(stepping: Repo, running: MlflowServer) -> None:
    told(stepping, running, "resumed")
    (stepping.path / "die").write_text("3 fail", encoding="utf-8")
    assert stepping.doit("train:legal").code == 1
    (run,) = running.runs("resumed")
    assert (run["status"], "this is no good rank" in run["tags"]["ollamake.reason"]) == ("FAILED", True)
    assert stepping.doit("train:legal").code == 0
    steps()
    (run,) = running.runs("resumed")
    assert run["status"] == "FINISHED"
    assert running.history(run["id"], "loss") == [(step, 1 / step) for step in (1, 2, 3, 4)]


def test_a_killed_build_s_run_is_killed_and_gone_on_with(stepping: Repo, running: MlflowServer) -> None:
    told(stepping, running, "killed")
    (stepping.path / "die").write_text("2 build", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "train:legal"], cwd=stepping.path, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    end = time.monotonic() + 60
    while [run["status"] for run in running.runs("killed")] != ["KILLED"] and time.monotonic() < end:
        time.sleep(0.2)
    assert [run["status"] for run in running.runs("killed")] == ["KILLED"]
    assert stepping.doit("train:legal").code == 0
    (run,) = running.runs("killed")
    assert (run["status"], [step for step, _ in running.history(run["id"], "loss")]) == ("FINISHED", [1, 2, 3, 4])


def test_a_run_that_was_deleted_is_begun_anew_once(repo: Repo, running: MlflowServer) -> None:
    told(repo, running, "deleted")
    assert repo.doit("test:legal").code == 0
    (run,) = running.runs("deleted")
    running.ask("runs/delete", run_id=run["id"])
    before = "    data: [shared]\n"
    for top_k in (3, 4):  # tested again, and not trained
        after = f"    data: [shared]\n    serve: {{parameters: {{top_k: {top_k}}}}}\n"
        repo.replace(before, after)
        result = repo.doit("test:legal")
        assert (result.code, result.out.count("sink")) == (0, 0), result.out
        before = after
    assert [run["status"] for run in running.runs("deleted")] == ["FINISHED"]


def test_an_experiment_that_was_deleted_is_said(repo: Repo, running: MlflowServer) -> None:
    told(repo, running, "gone")
    assert repo.doit("train:legal").code == 0
    found = running.ask("experiments/get-by-name", experiment_name="gone")["experiment"]["experiment_id"]
    running.ask("experiments/delete", experiment_id=found)
    repo.replace("rank: 2,", "rank: 4,")
    result = repo.doit("train:legal")
    assert (result.code, repo.trainings) == (0, ["legal", "legal"])
    what = "   sink mlflow: warning: the experiment 'gone' was deleted there\n"
    fix = f"  fix: `mlflow experiments restore -x {found}`, or name another in sinks.mlflow.experiment\n"
    assert (result.out.count("sink mlflow"), f"{what}{fix}" in result.out) == (1, True), result.out


def goes_on_when(repo: Repo, server: MlflowServer, does: Callable[[], None]) -> threading.Thread:
    """Let a training wait until the server has its first step, and this is done then."""
    counting = next(part for part in (repo.path / "models.yaml").read_text(encoding="utf-8").split(", ") if part.endswith("counting_trainer.py"))
    (repo.path / "held.py").write_text(TRAINER.format(counting=counting), encoding="utf-8")
    repo.replace(counting, str(repo.path / "held.py"))

    def wait() -> None:
        try:
            while not any(server.history(run["id"], "loss") for run in server.runs()):
                time.sleep(1)
            does()
        finally:
            (repo.path / "go").write_text("", encoding="utf-8")

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_server_that_was_killed_and_is_back_has_every_step(repo: Repo, own: MlflowServer) -> None:
    own.start()
    told(repo, own, "bots")

    def again() -> None:
        own.end()
        own.start()

    thread = goes_on_when(repo, own, again)
    result = repo.doit("train:legal")
    thread.join()
    assert (result.code, result.out.count("sink")) == (0, 0), result.out
    (run,) = own.runs()
    assert (run["status"], own.history(run["id"], "loss")) == ("FINISHED", [(1, 1.0), (2, 0.5)])


@pytest.mark.parametrize("how", ["hangs", "is down", "is killed"])
def test_a_server_that_does_not_answer_costs_one_warning(repo: Repo, own: MlflowServer, how: str) -> None:
    told(repo, own, "bots")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    if how != "is down":
        own.start()
    if how == "hangs":
        own.signal(signal.SIGSTOP)
    if how == "is killed":
        goes_on_when(repo, own, own.end)
    done = subprocess.run([sys.executable, "-m", "doit", "-n", "2"], cwd=repo.path, check=False, capture_output=True, text=True)
    if how == "hangs":
        own.signal(signal.SIGCONT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(repo.trainings) == ["legal", "sales"]
    assert 1 <= done.stdout.count("sink mlflow: warning: ") <= 2  # each of two processes tells for itself


@pytest.mark.parametrize("password", [PASSWORD, "another-password", None])
def test_a_server_that_asks_for_a_password_has_it_from_the_environment(
    repo: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    monkeypatch.setattr(feed, "WAIT", 60.0)  # for each request it makes a digest of the password that is meant to be slow
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), users=True)
    server.start()
    try:
        if password is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        told(repo, server, "bots")
        if password == PASSWORD:
            goes_on_when(repo, server, lambda: None)
        result = repo.doit("train:legal")
        assert result.code == 0
        if password == PASSWORD:
            assert ([run["status"] for run in server.runs()], "lets us not in" in result.out) == (["FINISHED"], False), result.out
        else:
            assert result.out.count("sink mlflow: warning: it lets us not in: ") == 1
            assert "  fix: set $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD, or $MLFLOW_TRACKING_TOKEN\n" in result.out
            assert server.runs() == []
        logs = [path.read_text(encoding="utf-8", errors="replace") for path in (repo.path / ".ollamake").rglob("*") if path.is_file()]
        assert not [text for text in [result.out, result.err, *logs] if os.environ.get("MLFLOW_TRACKING_PASSWORD", "no such text") in text]
    finally:
        server.end()
