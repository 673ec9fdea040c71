"""kill -9 at any moment: finished steps stay finished, no half target is taken for a whole one, and the end is that of a build that was let alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import DODO, HERE, Repo, write_repo
from fake_ollama import FakeOllama
from ollamake.digest import digest_file
from ollamake.state.receipts import read_receipt

pytestmark = pytest.mark.thorough

# In each of the 12 steps of the build, and behind the last of them: the first moment, the one in the middle, the last; and more by chance.
BY_CHANCE = 30
POINTS = [*range(13 * 3 + BY_CHANCE)]


def run_killed(point: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(HERE / "killed_doit.py"), str(point), *arguments], capture_output=True, text=True, check=False)


TOLD = {"train.log", "events.jsonl", "tests.json", "tests.xml"}


def tree() -> dict[str, str]:
    """All that a build leaves and depends on, by digest; not what it tells of itself, with its times."""
    paths = [Path("models.lock"), *Path("adapters").rglob("adapter_*"), *Path("build").rglob("*")]
    return {str(path): digest_file(path) for path in paths if path.is_file() and "receipt" not in path.name and path.name not in TOLD}


@dataclass(frozen=True)
class Whole:
    """A build that was let alone."""

    moments: list[str]
    tree: dict[str, str]
    models: dict[str, str]

    def point(self, number: int) -> int:
        """The number of the moment (from 1) at which the number-th killed build dies."""
        steps = list(dict.fromkeys(line.split()[0] for line in self.moments))
        fold = next(place for place, line in enumerate(self.moments, start=1) if ".models.lock." in line)
        parts = [[place for place, line in enumerate(self.moments[: fold - 1], start=1) if line.split()[0] == step] for step in steps]
        parts.append(list(range(fold, len(self.moments) + 1)))
        chosen = [part[at] for part in parts for at in (0, len(part) // 2, -1)]
        chosen += random.Random(20260109).sample(sorted(set(range(1, len(self.moments) + 1)) - set(chosen)), BY_CHANCE)
        return chosen[number]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, _one_ollama: FakeOllama) -> Iterator[Whole]:
    path = tmp_path_factory.mktemp("whole")
    write_repo(path, tiny_base)
    (path / "dodo.py").write_text(DODO, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("OLLAMA_HOST", _one_ollama.host)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        _one_ollama.version = "0.9.3"
        _one_ollama.reset()
        done = run_killed(0)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Whole(Path("moments").read_text(encoding="utf-8").splitlines(), tree(), {name: _one_ollama.digest(name) for name in _one_ollama.models})


def finished_trainings() -> set[str]:
    """The models whose training has left its receipt, in its place or still in its job."""
    receipts = [*Path("adapters").glob("[!.]*/receipt.json"), *Path("build").glob("*/job-*/out/receipt.json")]
    return {Path(next(iter(receipt.record.targets))).parent.name for path in receipts if (receipt := read_receipt(path))}


def check_that_it_ends_well(repo: Repo, whole: Whole) -> None:
    """One more doit brings the repo to the same end, and repeats no training that was finished."""
    finished, before = finished_trainings(), list(repo.trainings)
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert not finished & set(repo.trainings[len(before) :])
    assert tree() == whole.tree
    assert {name: repo.server.digest(name) for name in repo.server.models if "candidate" not in name} == whole.models
    assert repo.doit().ran == []
    assert not list(Path().rglob("job-*"))


def test_the_moments_are_of_all_steps(whole: Whole) -> None:
    steps = {line.split()[0] for line in whole.moments}
    assert len(steps) == 12
    assert len({whole.point(number) for number in POINTS}) >= 50


@pytest.mark.parametrize("number", POINTS)
def test_a_build_that_was_killed_is_taken_up(repo: Repo, whole: Whole, number: int) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    done = run_killed(whole.point(number))
    assert done.returncode == -signal.SIGKILL
    check_that_it_ends_well(repo, whole)


@pytest.mark.parametrize("seed", range(6))
def test_a_build_in_several_processes_that_was_killed_is_taken_up(repo: Repo, whole: Whole, seed: int) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    done = run_killed(random.Random(seed).randrange(2, 40), "-n", "3")  # each process counts for itself
    assert done.returncode in {0, -signal.SIGKILL}
    check_that_it_ends_well(repo, whole)


DYING = f"""\
import os, signal, sys, time, runpy
from pathlib import Path

def parent(pid):
    return int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])

def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

guard = os.getppid()
doit = parent(guard)
moment = Path("die").read_text() if Path("die").exists() else ""
Path("die").unlink(missing_ok=True)
if moment == "start":
    kill(doit, guard, os.getpid())
if moment == "alone":
    kill(doit)
    time.sleep(60)
    Path("outlived").touch()
runpy.run_path({str(HERE / "counting_trainer.py")!r})
if moment == "end":
    kill(doit, guard, os.getpid())
"""


@pytest.mark.parametrize("moment", ["start", "end", "alone"])
def test_a_training_that_dies_with_its_build_is_done_again(repo: Repo, moment: str) -> None:
    """With `alone` only doit is killed, and the trainer would go on for a minute."""
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    Path("trainer.py").write_text(DYING, encoding="utf-8")
    repo.replace(f"{HERE}/counting_trainer.py", "trainer.py")
    Path("die").write_text(moment, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert not Path("outlived").exists()  # the one that was left did not run to its end
    assert repo.trainings == (["legal"] if moment == "end" else []) + ["legal", "sales"]
    assert repo.doit().ran == []


def test_a_training_that_outlives_its_build_is_never_doubled(repo: Repo) -> None:
    """Even where the guard is killed too: who has inherited the GPU's lock keeps the next training waiting."""
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    held = "    kill(guard, doit)\n    until = time.monotonic() + 60\n"
    held += "    while not Path('go on').exists() and time.monotonic() < until:\n        time.sleep(0.01)\n"
    program = DYING.replace("    kill(doit)\n    time.sleep(60)\n", held)
    Path("trainer.py").write_text(program, encoding="utf-8")
    repo.replace(f"{HERE}/counting_trainer.py", "trainer.py")
    Path("die").write_text("alone", encoding="utf-8")
    doit = [sys.executable, "-m", "doit"]
    subprocess.run(doit, capture_output=True, text=True, check=False)
    with subprocess.Popen(doit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as second:
        assert second.stdout is not None
        said = next((line for line in second.stdout if "waiting for" in line), "")
        Path("go on").touch()
        second.stdout.read()
    assert said.startswith("   legal: waiting for the CPU: the training of legal, process ")
    assert second.returncode == 0
    assert Path("outlived").exists()
    assert repo.trainings == ["legal", "sales"]  # the first one could tell nobody of its end


@pytest.mark.parametrize("cut", [1, 2, 7, 40, 200])
def test_a_journal_line_that_was_torn_is_dropped(repo: Repo, whole: Whole, cut: int) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    place = next(place for place, line in enumerate(whole.moments, start=1) if ".models.lock." in line)
    run_killed(place)
    journal = Path(".ollamake/journal.jsonl")
    content = journal.read_bytes()
    assert content.count(b"\n") == 12
    journal.write_bytes(content[:-cut])
    check_that_it_ends_well(repo, whole)


def test_what_follows_a_torn_line_is_kept(tmp_path: Path) -> None:
    from ollamake.state.journal import Journal

    journal = Journal(tmp_path / "journal.jsonl")
    for step in ("one", "two"):
        journal.append({"step": step})
    journal.path.write_bytes(journal.path.read_bytes()[:-4])
    journal.append({"step": "three"})
    assert [entry["step"] for entry in journal.entries()] == ["one", "three"]
    assert json.loads(journal.path.read_bytes().splitlines()[-1]) == {"step": "three"}
    assert os.listdir(tmp_path) == ["journal.jsonl"]
