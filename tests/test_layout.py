"""The way of the data is one way: what decides imports nothing of what acts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ollamake
from conftest import Repo

ROOT = Path(ollamake.__file__).parent
# What a room may import of ollamake's own rooms, beside itself. The core decides, and stands first; the edge acts.
MAY_IMPORT = {
    "errors": set(),
    "digest": set(),
    "duration": set(),
    "spelling": set(),
    "catalog": {"errors", "digest", "spelling"},
    "records": {"errors", "digest", "spelling"},
    "graph": {"catalog", "records"},
    "freshness": {"errors", "digest"},
    "plan": {"freshness", "graph"},
    "lora": {"errors"},
    # edge
    "logs": set(),
    "build": {"state", "run"},  # for their types alone
    "state": {"build", "errors", "digest", "graph", "catalog", "freshness", "ollama", "trainers", "sights"},
    "sights": {"catalog", "digest", "freshness", "graph", "ollama", "stages", "state", "trainers"},
    "run": {"errors", "catalog", "digest", "graph", "foresight", "freshness", "sights", "state", "ollama", "stages"},
    "runner": {"build", "catalog", "engines", "graph"},
    "ollama": {"errors", "digest", "logs", "progress"},
    "trainers": {"errors", "records"},
    "engines": {"errors", "state"},
    "progress": {"duration", "trainers"},
    "stages": {
        "spelling",
        "errors",
        "digest",
        "catalog",
        "engines",
        "graph",
        "records",
        "lora",
        "logs",
        "freshness",
        "run",
        "state",
        "ollama",
        "trainers",
        "progress",
    },
    "tasks": {"errors", "build", "catalog", "graph", "ollama", "run", "sights", "state", "trainers"},
    "reporter": {"build", "duration", "state"},
    "foresight": {"catalog", "digest", "errors", "freshness", "graph", "records", "sights", "stages", "state"},
    "commands": {
        *(
            "errors",
            "build",
            "catalog",
            "duration",
            "foresight",
            "freshness",
            "graph",
            "ollama",
            "plan",
            "reporter",
            "runner",
            "sights",
            "spelling",
            "stages",
        ),
        *("state", "tasks", "trainers"),
    },
    "__init__": {"build", "state", "tasks"},
}
CORE = ("errors", "digest", "duration", "spelling", "catalog", "records", "graph", "freshness", "plan", "lora")
# The outside world: clock, network, processes, doit.
OUTSIDE = {"time", "datetime", "http", "urllib", "socket", "subprocess", "httpx", "ollama", "doit", "rich", "platformdirs"}


def modules() -> list[tuple[str, Path]]:
    return [(path.relative_to(ROOT).parts[0].removesuffix(".py"), path) for path in sorted(ROOT.rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_no_arrow_points_back() -> None:
    for room, path in modules():
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("ollamake.")}
        assert rooms - {room} <= MAY_IMPORT[room], path


def test_the_core_knows_no_clock_no_network_and_no_doit() -> None:
    for room, path in modules():
        if room in CORE:
            assert not {name.split(".")[0] for name in imported(path)} & OUTSIDE, path


def test_a_run_without_work_imports_nothing_heavy(built: Repo) -> None:
    heavy = ("torch", "transformers", "peft", "httpx", "pydantic", "ollama", "numpy", "gguf", "rich", "jinja2")
    program = f"""
import sys
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from ollamake import DOIT_CONFIG, tasks_from
def task_models():
    yield from tasks_from("models.yaml")
code = DoitMain(ModuleTaskLoader(dict(DOIT_CONFIG=DOIT_CONFIG, task_models=task_models))).run([])
print(code, [name for name in {heavy} if name in sys.modules])
"""
    (built.path / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "2 models: 2 fresh\n0 []\n"


@pytest.mark.parametrize("path", [path for _, path in modules()], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250
