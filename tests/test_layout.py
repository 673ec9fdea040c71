"""The way of the data is one way: what decides imports nothing of what acts."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ollamake
from conftest import Repo, without_times

ROOT = Path(ollamake.__file__).parent
# What a room may import of ollamake's own rooms, beside itself: only what stands above it. The core decides, and stands first; the edge acts.
MAY_IMPORT = {
    "errors": "",
    "digest": "",
    "duration": "",
    "spelling": "",
    "catalog": "errors digest spelling",
    "records": "errors digest spelling",
    "gate": "errors spelling catalog records",
    "selection": "errors spelling catalog",
    "importers": "errors spelling catalog",
    "graph": "catalog records",
    "freshness": "errors digest",
    "plan": "catalog freshness graph",
    "comment": "duration spelling plan",
    "report": "spelling",
    "lora": "errors digest",
    # edge
    "durable": "",
    "moments": "",
    "logs": "",
    "say": "",
    "folders": "",
    "fetch": "say",
    "locks": "",
    "bases": "errors digest durable locks records lora",
    "call": "",
    "untrained": "errors digest graph freshness call",
    "state": "errors digest catalog gate graph freshness durable call locks",
    "git": "errors spelling",
    "said": "records",
    "cache": "errors digest spelling catalog graph freshness plan call said say state git",
    "trainers": "errors digest records spelling lora durable",
    "bars": "say",
    "pausing": "bars say",
    "events": "say",
    "relay": "say bars",
    "progress": "duration spelling say bars trainers",
    "engines": "errors digest spelling catalog durable bases say folders locks cache trainers progress moments",
    "ollama": "errors digest catalog state logs say folders locks progress",
    "sinks": "errors spelling catalog said say state moments",
    "stages": "errors digest duration spelling catalog records gate graph freshness untrained lora bases durable logs say folders locks state cache trainers progress engines ollama sinks moments",
    "hub": "errors digest catalog records graph said say",
    "sights": "digest catalog graph freshness state trainers ollama stages",
    "drift": "errors catalog graph freshness state sights",
    "foresight": "errors digest spelling catalog records graph freshness untrained state cache stages sights drift",
    "standing": "spelling catalog gate graph freshness plan state sights drift foresight moments",
    "origin": "catalog graph state trainers ollama",
    "seal": "errors graph state ollama sights drift origin",
    "recipes": "errors catalog lora trainers",
    "loading": "errors catalog graph recipes call state cache trainers ollama sinks sights drift",
    "fallback": "errors catalog drift events freshness locks say stages state",
    "run": "errors digest catalog graph freshness events say call state cache ollama hub stages sights drift foresight fallback moments",
    "pushing": "errors catalog graph say call state ollama hub run moments",
    "view": "duration spelling bars",
    "ending": "",
    "reporter": "duration ending spelling say call pausing state view",
    "event_reporter": "errors events say call reporter",
    "processes": "ending",
    "talks": "catalog graph engines reporter",
    "whole": "call ending engines run reporter processes sinks talks",
    "runner": "ending engines processes relay reporter sinks talks whole",
    "tasks": "errors catalog graph say call state stages loading run pushing",
    "mirror": "catalog git",
    "past": "errors digest catalog graph state trainers ollama loading git mirror",
    "since": "errors digest catalog graph freshness plan state sights git past",
    "survey": "errors duration spelling folders locks say catalog records lora gate graph freshness plan report state git ollama stages sights foresight standing origin loading moments",
    "completion": "catalog folders state trainers",
    "watching": "digest catalog",
    "commands": "errors duration spelling catalog records selection importers graph freshness plan comment recipes call said say folders state cache trainers engines ollama progress stages sights foresight standing seal run pushing reporter event_reporter events bars runner tasks git since completion watching survey",
    "__init__": "call state seal tasks",
}
CORE = (
    "errors",
    "digest",
    "duration",
    "spelling",
    "catalog",
    "records",
    "gate",
    "selection",
    "importers",
    "graph",
    "freshness",
    "plan",
    "comment",
    "lora",
)
# The outside world: clock, network, processes, doit.
OUTSIDE = {"time", "datetime", "http", "urllib", "socket", "subprocess", "httpx", "ollama", "doit", "rich", "platformdirs"}


def modules() -> list[tuple[str, Path]]:
    return [(path.relative_to(ROOT).parts[0].removesuffix(".py"), path) for path in sorted(ROOT.rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The names that a module imports when it runs; what is for the type checker alone points nowhere."""
    names = set()
    to_come: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while to_come:
        node = to_come.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        to_come.extend(ast.iter_child_nodes(node))
    return names


def test_no_arrow_points_back() -> None:
    for room, path in modules():
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("ollamake.")}
        assert rooms - {room} <= set(MAY_IMPORT[room].split()), path


def test_the_table_itself_points_one_way() -> None:
    rooms = list(MAY_IMPORT)
    for place, room in enumerate(rooms):
        assert set(MAY_IMPORT[room].split()) <= set(rooms[:place]), room


def test_the_core_knows_no_clock_no_network_and_no_doit() -> None:
    for room, path in modules():
        if room in CORE:
            assert not {name.split(".")[0] for name in imported(path)} & OUTSIDE, path


def test_a_run_without_work_imports_nothing_heavy(built: Repo) -> None:
    heavy = ("torch", "transformers", "peft", "httpx", "pydantic", "ollama", "numpy", "gguf", "rich", "jinja2", "mlflow", "wandb", "huggingface_hub")
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
    assert without_times(done.stdout) == "2 models: 2 fresh\n0 []\n"


@pytest.mark.parametrize("path", [path for _, path in modules()], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 250


def test_nothing_that_may_run_in_a_thread_prints_without_saying_where() -> None:
    """See ollamake.say. Commands run in no thread."""
    for room, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if room != "commands" and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert "file" in [keyword.arg for keyword in node.keywords], f"{path}:{node.lineno}"
