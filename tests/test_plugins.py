"""A trainer of somebody else's, installed beside ollamake: found by its entry point, given the text that it asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import DODO, HERE, Repo

PLUGIN = f"""
import sys
from ollamake.trainers.port import Command, Trainer

class Plain(Trainer):
    name = "plain"
    text_format = "text"
    def missing(self, environment): return None
    def versions(self, environment): return {{"plain-engine": "1.2"}}
    def plan(self, job):
        argv = (sys.executable, r"{HERE}/counting_trainer.py", str(job.text), str(job.out), str(job.folder / "job.json"))
        return Command(argv=argv, in_job=False)
"""


def install(folder: Path, program: str) -> None:
    folder.mkdir()
    (folder / "plain_trainer.py").write_text(program, encoding="utf-8")
    info = folder / "plain_trainer-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-trainer\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.trainers]\nplain = plain_trainer:Plain\n", encoding="utf-8")


def doit(repo: Repo, *arguments: str) -> subprocess.CompletedProcess[str]:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    (line,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, "  train: {trainer: plain, rank: 2, target_modules: [q_proj]}")
    return subprocess.run(
        [sys.executable, "-m", "doit", *arguments], env={"PYTHONPATH": "plugins", "PATH": ""}, capture_output=True, text=True, check=False
    )


def test_a_plugin_trains_on_plain_text(repo: Repo) -> None:
    install(repo.path / "plugins", PLUGIN)
    done = doit(repo, "train:legal")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert repo.trainings == ["legal"]
    assert (
        (repo.path / "build/legal/text.txt").read_text(encoding="utf-8").startswith("### Instruction:\nQuestion 0?\n\n### Response:\nAnswer 0.\n\n")
    )


def test_a_plugin_that_is_broken_is_named(repo: Repo) -> None:
    install(repo.path / "plugins", "import nothing_of_that_name\n")
    done = doit(repo, "train:legal")
    said = "trainer 'plain' can't be loaded: No module named 'nothing_of_that_name'\n  fix: reinstall the package that provides 'plain'"
    assert (done.returncode, done.stderr) == (3, f"ERROR: \n{said}\n")


def test_a_plugin_that_can_not_run_says_what_to_install(repo: Repo) -> None:
    install(repo.path / "plugins", PLUGIN.replace("return None", "return 'pip install plain-engine'"))
    done = doit(repo, "train:legal")
    said = "models.yaml:3: model 'legal': trainer 'plain' is not installed\n  fix: pip install plain-engine"
    assert done.returncode == 1
    assert f"\ntrain:legal failed:\n{said}\n" in done.stdout


def test_a_plugin_that_is_no_trainer_is_named(repo: Repo) -> None:
    install(repo.path / "plugins", PLUGIN.replace("(Trainer)", "").replace("def versions", "def other"))
    done = doit(repo, "train:legal")
    said = "trainer 'plain' is not a trainer of this ollamake: it has no capabilities, versions, objections, gpu_objections, checkpoint, progress, collect\n  fix: install a version of the package that provides 'plain' which fits ollamake "
    assert (done.returncode, done.stderr.startswith(f"ERROR: \n{said}")) == (3, True), done.stderr
