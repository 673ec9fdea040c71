"""`train.launch`: trainings that other words run, such as Slurm's srun; here a stand-in that runs them in a session of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import HERE, Repo
from stepping_repo import replace_plugin, slow, steps
from stepping_trainer import PLUGIN
from test_concurrent import DOIT, four_models, noted, wait_for


@pytest.fixture(autouse=True)
def _srun(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program `srun` on PATH."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "srun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{HERE}/srun_stand_in.py" "$@"\n', encoding="utf-8")
    (folder / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("SRUN_LOG", str(tmp_path))


def launch(repo: Repo, *words: str, **train: Any) -> None:
    """Let all trainings be launched by these words."""
    repo.replace("rank: 2,", f"rank: 2, {json.dumps({'launch': words, **train})[1:-1]},")


def calls() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("launched.log").read_text(encoding="utf-8").splitlines()]


def log_of(model: str) -> str:
    return Path(f"build/{model}/train.log").read_text(encoding="utf-8")


def test_a_training_is_launched_by_the_words_of_the_catalog(repo: Repo) -> None:
    launch(repo, "srun", "--job-name={name}", "--gres=gpu:{gpus}", "--comment=$${x}", resources={"gpu": 4})
    result = repo.doit("train:legal")
    assert result.code == 0, result.out
    (call,) = calls()
    assert call["options"] == ["--job-name=legal", "--gres=gpu:4", "--comment=${x}"]
    assert call["program"][1] == f"{HERE}/counting_trainer.py"
    assert call["folder"] == str(Path.cwd())
    assert "   legal: srun: job 7 queued and waiting for resources\n" in result.out
    assert result.out.count("srun: job 7 has been allocated resources\n") == 1
    assert "a line that is no event\n" in log_of("legal")
    assert {event["event"] for event in map(json.loads, Path("build/legal/events.jsonl").read_text(encoding="utf-8").splitlines())} == {
        "start",
        "step",
    }


def test_how_a_training_is_launched_is_no_part_of_the_recipe(built: Repo) -> None:
    launch(built, "srun", "--gres=gpu:1")
    assert built.doit().ran == []
    built.replace("gpu:1", "gpu:2")
    assert built.doit().ran == []
    assert "train.launch" in built.doit("why", "legal").out


def test_a_model_may_train_here_though_the_default_is_elsewhere(repo: Repo) -> None:
    launch(repo, "srun")
    repo.replace("    data: [shared]\n", "    data: [shared]\n    train: {launch: []}\n")
    assert repo.doit("train").code == 0
    assert len(calls()) == 1
    assert "srun" not in log_of("legal")


def test_as_many_at_once_as_there_are_processes_and_no_gpu_of_this_machine_is_asked_for(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo, "{gpu: 2}")
    launch(repo, "srun")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("TOGETHER", "4")
    done = subprocess.run([*DOIT, "-n", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(int(str(note["beside"])) for note in noted()) == 4
    assert {note["gpus"] for note in noted()} == {"7"}
    assert len(calls()) == 4


def test_one_after_the_other_in_a_run_of_one_process(repo: Repo) -> None:
    four_models(repo)
    launch(repo, "srun")
    assert subprocess.run(DOIT, capture_output=True, check=False).returncode == 0
    assert [note["beside"] for note in noted()] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "was ended by signal 9 (out of memory?)"),
    ],
)
def test_exit_codes_come_through(repo: Repo, end: str, said: str) -> None:
    Path("trainer.py").write_text(f"import os, sys\nprint('dying')\nsys.stdout.flush()\n{end}\n", encoding="utf-8")
    repo.replace(f"{HERE}/counting_trainer.py", "trainer.py")
    launch(repo, "srun")
    result = repo.doit("train:legal")
    assert result.code == 1
    assert f"model 'legal': trainer 'command' {said}; build/legal/train.log ends:\n" in result.out
    assert "    dying\n" in result.out  # on standard output, and srun's own word on standard error: either may be there first
    assert "    srun: error: node1: task 0: " in result.out


def test_what_the_trainer_says_of_its_failure_is_the_last_word(stepping: Repo) -> None:
    Path("die").write_text("1 fail", encoding="utf-8")
    launch(stepping, "srun")
    result = stepping.doit("train:legal")
    assert result.code == 1
    assert "models.yaml:3: model 'legal': this is no good rank\n  fix: write another\n" in result.out


def test_a_job_that_is_ended_in_the_middle_of_a_training_is_no_fault_of_the_queue(stepping: Repo) -> None:
    Path("die").write_text("2", encoding="utf-8")
    launch(stepping, "srun")
    result = stepping.doit("train:legal")
    assert result.code == 1
    said = "model 'legal': trainer 'stepping' was ended by signal 9 (out of memory?); build/legal/train.log ends:\n"
    assert said in result.out
    assert "    srun: error: node1: task 0: Killed\n  fix: read build/legal/train.log; then run `doit` again\n" in result.out


def test_a_queue_that_takes_no_such_job_is_at_fault_and_not_the_trainer(repo: Repo) -> None:
    launch(repo, "srun", "--partition=nowhere")
    result = repo.doit("train:legal")
    assert result.code == 1
    said = (
        "train:legal failed:\n"
        "models.yaml:3: model 'legal': 'srun' ended with exit code 1, and the trainer has said nothing; build/legal/train.log ends:\n"
        "    srun: error: Unable to allocate resources: Invalid partition name specified\n"
        "  fix: mend train.launch in the catalog, or what it speaks of; then run `doit` again\n"
    )
    assert said in result.out


def test_one_that_ends_without_a_word(repo: Repo) -> None:
    launch(repo, "false")
    result = repo.doit("train:legal")
    assert result.code == 1
    said = "models.yaml:3: model 'legal': 'false' ended with exit code 1, and neither it nor the trainer has said anything\n  fix: mend train.launch"
    assert said in result.out


def test_a_program_that_is_not_there(repo: Repo) -> None:
    launch(repo, "srunn")
    result = repo.doit("train:legal")
    assert result.code == 1
    said = "models.yaml:3: model 'legal': train.launch: no such program: srunn\n  fix: run doit where it is, such as on a cluster's login node; "
    assert said in result.out
    assert repo.trainings == []


def test_a_program_of_the_repo_is_found_from_the_file_that_says_it(repo: Repo) -> None:
    Path("srun here").write_text('#!/bin/sh\nexec srun "$@"\n', encoding="utf-8")
    Path("srun here").chmod(0o755)
    launch(repo, "./srun here", "--any")
    result = repo.doit("train:legal")
    assert result.code == 0, result.out
    assert calls()[0]["options"] == ["--any"]


def test_places_that_stand_for_nothing(repo: Repo) -> None:
    launch(repo, "srun", "--job-name={nam}", "--x={model}")
    result = repo.doit()
    assert result.code == 3
    assert "models.yaml:3: model 'legal': launch: {nam} stands for nothing\n  fix: write {name}\n" in result.err
    assert "models.yaml:3: model 'legal': launch: {model} stands for nothing\n  fix: write {name} or {gpus}\n" in result.err


def is_there(program: int) -> bool:
    try:
        return Path(f"/proc/{program}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_ends_ends_what_it_has_launched_and_the_next_goes_on(stepping: Repo, number: int) -> None:
    slow(stepping)
    launch(stepping, "srun")
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(Path("pid"))
    program = int(Path("pid").read_text(encoding="utf-8"))
    assert os.getsid(program) == program  # of no group of ours
    os.killpg(first.pid, number)
    out, err = first.communicate(timeout=60)
    assert "Traceback" not in out + err
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert not is_there(program)
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out
    assert not is_there(program)
    assert "   legal: goes on from checkpoint-2 of a training that was ended\n" in result.out
    assert steps() == ["legal base all", "legal 1", "legal 2", "legal base all", "legal 3", "legal 4"]
    assert len(calls()) == 2


def test_what_a_script_has_launched_has_its_time_to_end_the_job(stepping: Repo) -> None:
    slow(stepping)
    Path("launch.sh").write_text('#!/bin/sh\nsrun "$@"\nexit $?\n', encoding="utf-8")  # which dies at once of SIGTERM
    Path("launch.sh").chmod(0o755)
    launch(stepping, "./launch.sh")
    build = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(Path("pid"))
    os.killpg(build.pid, signal.SIGINT)
    assert build.wait(60) == 130
    assert not is_there(int(Path("pid").read_text(encoding="utf-8")))


def test_a_trainer_that_needs_a_gpu_may_have_it_elsewhere(stepping: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    replace_plugin("gpu_plugin", PLUGIN.replace("Capabilities(", "Capabilities(needs_gpu=True, "))
    assert "needs a GPU, and this machine has none" in stepping.doit("train:legal").out
    assert stepping.doit("doctor").code == 1
    launch(stepping, "srun")
    assert stepping.doit("train:legal").code == 0
    result = stepping.doit("doctor")
    assert result.code == 0
    (line,) = [line for line in result.out.splitlines() if line.startswith("+ stepping ")]
    assert line.split(maxsplit=2)[2] == "launched by srun, used by 2 models"


def test_the_doctor_says_that_the_program_is_missing(repo: Repo) -> None:
    launch(repo, "srunn")
    result = repo.doit("doctor")
    assert result.code == 1
    assert "no such program: srunn, used by 2 models\n" in result.out


def test_words_before_what_ray_starts_by_itself(repo: Repo) -> None:
    launch(repo, "srun")
    repo.replace("    data: [shared]\n", "    data: [shared]\n    engine: {kind: ray}\n")
    result = repo.doit()
    assert result.code == 3
    said = "models.yaml:3: model 'legal': launch: engine 'ray' starts the training itself, and no words before it\n  fix: write `launch: []` into "
    assert said in result.err
