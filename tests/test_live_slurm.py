"""`train.launch` with a real Slurm, which the test starts on this machine: `python -m pytest -m cluster tests/test_live_slurm.py`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import DODO, Repo
from slurm_here import PATIENCE, Slurm, lacking, until
from stepping_repo import slow, steps
from test_concurrent import four_models, noted, wait_for
from test_launch import is_there, launch

pytestmark = [
    pytest.mark.live,
    pytest.mark.cluster,
    pytest.mark.skipif(lacking() is not None, reason=f"no {lacking()} here (Debian: slurm-wlm and munge)"),
]
SRUN = ("srun", "--gres=gpu:{gpus}", "--ntasks=1", "--job-name={name}")


@pytest.fixture(scope="module")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    yield slurm
    slurm.end()


@pytest.fixture
def slurm(_slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """A Slurm with nothing to do, and afterwards nothing either."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm.conf))
    yield _slurm
    left = _slurm.jobs()
    _slurm.asked("scancel", "--full", "--me")
    until(lambda: not _slurm.jobs())
    assert left == {}


@contextmanager
def full(slurm: Slurm) -> Iterator[None]:
    """Both nodes have something to do."""
    others = [subprocess.Popen(["srun", "--gres=gpu:1", f"--job-name=other{number}", "sleep", "600"], stderr=subprocess.DEVNULL) for number in (1, 2)]
    until(lambda: slurm.jobs() == {"other1": "RUNNING", "other2": "RUNNING"})
    try:
        yield
    finally:
        slurm.asked("scancel", "--name=other1")
        slurm.asked("scancel", "--name=other2")
        for other in others:
            other.wait(PATIENCE)
        until(lambda: not slurm.jobs().keys() & {"other1", "other2"})


class Build:
    """doit, as a process."""

    def __init__(self, *arguments: str) -> None:
        Path("dodo.py").write_text(DODO, encoding="utf-8")
        with Path("out").open("w", encoding="utf-8") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "doit", *arguments], stdout=out, stderr=out, start_new_session=True)

    @property
    def out(self) -> str:
        return Path("out").read_text(encoding="utf-8")

    def ended(self) -> tuple[int, str]:
        return self.process.wait(PATIENCE), self.out


def test_as_many_at_once_as_there_are_gpus_and_the_others_wait_in_the_queue(repo: Repo, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo)
    launch(repo, *SRUN)
    monkeypatch.setenv("TOGETHER", "2")
    code, out = Build("-n", "4").ended()
    assert code == 0, out
    assert max(int(str(note["beside"])) for note in noted()) == 2
    assert sorted(str(note["name"]) for note in noted()) == ["fourth", "legal", "sales", "third"]
    assert re.search(r"\n   \w+: srun: job \d+ queued and waiting for resources\n", out)
    assert slurm.jobs() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_ends_ends_its_job_and_the_next_goes_on(stepping: Repo, slurm: Slurm, number: int) -> None:
    slow(stepping)
    launch(stepping, *SRUN)
    build = Build("train:legal")
    wait_for(Path("pid"))
    program = int(Path("pid").read_text(encoding="utf-8"))
    assert slurm.jobs() == {"legal": "RUNNING"}
    os.killpg(build.process.pid, number)
    code, out = build.ended()
    assert code == (130 if number == signal.SIGINT else -9), out
    assert "Traceback" not in out
    until(lambda: not slurm.jobs())
    assert not is_there(program)
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out
    assert "   legal: goes on from checkpoint-2 of a training that was ended\n" in result.out
    assert [step for step in steps() if step[-1].isdigit()] == [f"legal {number}" for number in range(1, 5)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_ends_takes_its_job_out_of_the_queue(repo: Repo, slurm: Slurm, number: int) -> None:
    launch(repo, *SRUN)
    with full(slurm):
        build = Build("train:legal")
        until(lambda: re.search(r"\n   legal: srun: job \d+ queued and waiting for resources\n", build.out))
        assert slurm.jobs()["legal"] == "PENDING"
        os.killpg(build.process.pid, number)
        build.ended()
        until(lambda: "legal" not in slurm.jobs())
        assert slurm.jobs().keys() == {"other1", "other2"}
    assert repo.trainings == []


def test_a_node_that_does_not_answer_gives_its_gpu_back_when_it_does(stepping: Repo, slurm: Slurm) -> None:
    slow(stepping)
    launch(stepping, *SRUN)
    build = Build("train:legal")
    wait_for(Path("pid"))
    node = slurm.asked("squeue", "-h", "-o", "%N").strip()
    stopped = [slurm.processes[node].pid, *slurm.steps()]
    assert len(stopped) > 1
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    os.killpg(build.process.pid, signal.SIGINT)
    code, out = build.ended()
    assert code == 130, out
    for process in stopped:
        os.kill(process, signal.SIGCONT)
    until(lambda: not slurm.jobs())


def test_a_job_that_is_cancelled_is_a_training_that_failed_and_the_next_goes_on(stepping: Repo, slurm: Slurm) -> None:
    slow(stepping)
    launch(stepping, *SRUN)
    build = Build("train:legal")
    wait_for(Path("pid"))
    slurm.asked("scancel", "--name=legal")
    code, out = build.ended()
    assert code == 1
    said = r"model 'legal': trainer 'stepping' was ended by signal 15; build/legal/train.log ends:\n(    .*\n)*    srun: error: node\d: task 0: Terminated\n"
    assert re.search(said + "  fix: read build/legal/train.log; then run `doit` again", out), out
    result = stepping.doit("train:legal")
    assert result.code == 0, result.out
    assert "   legal: goes on from checkpoint-2 of a training that was ended\n" in result.out


def test_a_job_that_is_cancelled_in_the_queue(repo: Repo, slurm: Slurm) -> None:
    launch(repo, *SRUN)
    with full(slurm):
        build = Build("train:legal")
        until(lambda: slurm.jobs().get("legal") == "PENDING")
        slurm.asked("scancel", "--name=legal")
        code, out = build.ended()
    assert code == 1
    assert re.search(
        r"models\.yaml:3: model 'legal': 'srun' ended with exit code 1, and the trainer has said nothing; .*\n(    srun: .*\n)+  fix: ", out
    ), out
    assert "    srun: Job has been cancelled\n" in out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--partition=nowhere", "Invalid partition name specified"),
        ("--constraint=gold", "Invalid feature specification"),
        ("--gres=gpu:9", "Requested node configuration is not available"),
        ("--gres=tpu:1", "Invalid generic resource (gres) specification"),
    ],
)
def test_what_slurm_has_not_is_said(repo: Repo, slurm: Slurm, word: str, said: str) -> None:
    launch(repo, "srun", word)
    result = repo.doit("train:legal")
    assert result.code == 1
    assert re.search(
        r"models\.yaml:3: model 'legal': 'srun' ended with exit code 1, and the trainer has said nothing; .*\n(    srun: .*\n)+  fix: ", result.out
    )
    assert f"{said}\n" in result.out
