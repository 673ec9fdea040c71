"""A repo whose models train by the stepping trainer."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import DODO, HERE, Repo
from ollamake.trainers import installed, port
from stepping_trainer import PLUGIN

TRAIN = "{trainer: stepping, batch_size: 4, epochs: 2, rank: 2, target_modules: [q_proj]}"


@pytest.fixture
def stepping(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    """A repo whose models train by the stepping trainer: legal has 8 records, and so 4 steps."""
    plugins = repo.path / "plugins"
    info = plugins / "stepping-1.0.dist-info"
    info.mkdir(parents=True)
    (plugins / "stepping_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stepping\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.trainers]\nstepping = stepping_plugin:Stepping\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(plugins))
    monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=os.pathsep)
    port.trainer.cache_clear()
    installed.installed.cache_clear()
    (line,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, f"  train: {TRAIN}")
    repo.records("shared").write_text("".join(record(number) for number in range(8)), encoding="utf-8")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    yield repo
    port.trainer.cache_clear()
    installed.installed.cache_clear()


def record(number: int) -> str:
    return json.dumps({"instruction": f"Question {number}?", "output": f"Answer {number}."}) + "\n"


def steps() -> list[str]:
    """What the trainer did since this was asked last."""
    log = Path("steps.log")
    found = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def receipt() -> dict[str, object]:
    found: dict[str, object] = json.loads(Path("adapters/legal/receipt.json").read_text(encoding="utf-8"))["outcome"]
    return found


def replace_plugin(name: str, text: str, trainers: str = "stepping") -> None:
    """Let the trainers of these names, with commas between them, be those of another module, called `name`: of one that was imported Python has a copy."""
    Path(f"plugins/{name}.py").write_text(text, encoding="utf-8")
    lines = [f"{trainer} = {name}:{trainer.capitalize()}\n" for trainer in trainers.split(",")]
    Path("plugins/stepping-1.0.dist-info/entry_points.txt").write_text(f"[ollamake.trainers]\n{''.join(lines)}", encoding="utf-8")
    importlib.invalidate_caches()
    sys.modules.pop(name, None)
    port.trainer.cache_clear()
    installed.installed.cache_clear()


def slow(repo: Repo) -> None:
    """Let the trainer wait behind its second step, and leave its process's number."""
    note = "def die(repo, step):\n    if step == 2 and not (repo / 'pid').exists():\n        (repo / 'pid.new').write_text(str(os.getpid()))\n"
    note += "        (repo / 'pid.new').rename(repo / 'pid')\n        time.sleep(300)\n"
    Path("slow_trainer.py").write_text(
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport stepping_trainer\nfrom stepping_trainer import *\n{note}stepping_trainer.die = die\n"
        "main(Path(sys.argv[1]))\n",
        encoding="utf-8",
    )
    replace_plugin("slow_plugin", PLUGIN.replace(repr(str(HERE / "stepping_trainer.py")), repr(str(Path("slow_trainer.py").absolute()))))
