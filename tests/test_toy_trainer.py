"""The tutorial's trainer, as docs/trainers has it: it keeps the contract, is as short as is said, and builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import DODO, Repo
from ollamake.trainers.contract import TrainerContract
from ollamake.trainers.port import PARTS

DOCS = Path(__file__).parent.parent / "docs/trainers"
sys.path.insert(0, str(DOCS))

from toy_trainer import ToyTrainer  # noqa: E402 - from the docs


class TestToy(TrainerContract):
    trainer = ToyTrainer()


def test_the_tutorial_shows_it_whole() -> None:
    program = (DOCS / "toy_trainer.py").read_text(encoding="utf-8")
    shown = "\n".join(f"    {line}".rstrip() for line in program.splitlines())
    assert shown in (DOCS / "write-one.md").read_text(encoding="utf-8")
    code = program[program.index("class ") :]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_the_tutorial_has_a_heading_for_each_part_of_a_trainer() -> None:
    assert re.findall(r"^### (\w+)$", (DOCS / "write-one.md").read_text(encoding="utf-8"), flags=re.MULTILINE) == list(PARTS)


def test_it_builds(repo: Repo) -> None:
    plugins = repo.path / "plugins"
    info = plugins / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(DOCS / "toy_trainer.py", plugins)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.trainers]\ntoy = toy_trainer:ToyTrainer\n", encoding="utf-8")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    (line,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, "  train: {trainer: toy, rank: 4}")
    environment = {"PYTHONPATH": str(plugins), "PATH": ""}
    command = [sys.executable, "-m", "doit"]
    done = subprocess.run([*command, "package:legal"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "   legal: step 1/1  loss 0.0000\n" in done.stdout
    assert Path("build/legal/served.json").exists()
    doctor = subprocess.run([*command, "doctor"], env=environment, capture_output=True, text=True, check=False)
    assert re.search(r"^\+ toy +runs here, used by 2 models$", doctor.stdout, flags=re.MULTILINE)
