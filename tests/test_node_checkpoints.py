"""A training on a node, as a cluster has it done there, and its checkpoints: it goes on elsewhere, and ends whatever their store does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamake.digest import digest_file
from ollamake.engines.checkpoints import Kept
from ollamake.engines.node_files import wanted
from ollamake.engines.on_node import trained
from ollamake.trainers import port

KEY = f"sha256:{'ab' * 32}"
PROGRAM = """\
import json, os, shutil, sys, time
from pathlib import Path
folder, wait, die = Path.cwd(), Path(sys.argv[1]), sys.argv[2]
job = json.loads((folder / "job.json").read_text())
done = int((folder / job["checkpoint"] / "step").read_text()) if job["checkpoint"] else 0
tell = lambda event, **facts: print(json.dumps({"event": event, "steps": 6, **facts}), flush=True)
tell("start", examples=1)
if done:
    tell("resumed", step=done)
for step in range(done + 1, 7):
    (folder / "work/part").mkdir()
    (folder / "work/part/step").write_text(str(step))
    (folder / "work/part").rename(folder / f"work/checkpoint-{step}")
    if step > 1:
        shutil.rmtree(folder / f"work/checkpoint-{step - 1}", ignore_errors=True)
    tell("step", step=step, loss=1 / step)
    tell("checkpoint", step=step)
    if str(step) == die and wait.exists():
        wait.unlink()
        print("it is no good")
        sys.exit(3)
(folder / "out/adapter_config.json").write_text("{}")
(folder / "out/adapter_model.safetensors").write_text(f"of {job['records']} records")
tell("done", step=6)
"""
PLUGIN = """\
import sys
from ollamake.trainers.port import Capabilities, Command, Trainer

class Resuming(Trainer):
    name = "resuming"
    text_format = "chat"
    capabilities = Capabilities(resumes=True, reports_progress=True)

    def checkpoint(self, folder):
        found = sorted((folder / "work").glob("checkpoint-*/step"), key=lambda path: int(path.read_text()))
        return found[-1].parent if found else None

    def plan(self, job):
        return Command(argv=(sys.executable, "-I", "-S", "{program}", "{die}", "4"))
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a node is asked; its trainer is a plugin that is installed there."""
    plugins = tmp_path / "plugins"
    info = plugins / "resuming-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    plugin = PLUGIN.replace("{program}", str(tmp_path / "program.py")).replace("{die}", str(tmp_path / "die"))
    (plugins / "resuming_plugin.py").write_text(plugin, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resuming\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.trainers]\nresuming = resuming_plugin:Resuming\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(plugins))
    port.trainer.cache_clear()
    (tmp_path / "base.gguf").write_bytes(b"a base")
    (tmp_path / "text.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "nfs").mkdir()
    digest = digest_file(tmp_path / "base.gguf")
    facts = {
        "name": "legal",
        "text": "text.jsonl",
        "records": 1,
        "holdout": None,
        "start": None,
        "checkpoint": None,
        "out": "out",
        "work": "work",
        "base": {"gguf": str(tmp_path / "base.gguf"), "digest": digest},
        "recipe": {},
        "gpus": 0,
        "trainer": "resuming",
        "versions": {},
        "digests": {"text.jsonl": digest_file(tmp_path / "text.jsonl")},
    }
    yield {
        "name": "legal",
        "trainer": "resuming",
        "facts": facts,
        "env": None,
        "base": wanted(tmp_path / "base.gguf").as_json(),
        "form": "gguf",
        "results": ["adapter_config.json", "adapter_model.safetensors"],
        "checkpoints": str(tmp_path / "nfs/kept"),
        "key": KEY,
        "threads": None,
    }
    port.trainer.cache_clear()


def train(asked: dict[str, Any], node: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, Any]], list[str], dict[str, Any]]:
    """What a node tells of a training that it is asked for: its events, its notes, and how it ended."""
    node.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(node))
    monkeypatch.setenv("XDG_CACHE_HOME", str(node / "cache"))
    text = ("text.jsonl", asked["facts"]["digests"]["text.jsonl"], b"{}\n")
    reports = list(trained(json.loads(json.dumps(asked)), [text], [b"a base"], gpus=0, where="10.0.0.3"))
    assert reports[-1].keys() & {"ended"}, reports[-1]
    assert list(node.glob("ollamake-*/legal/*")) == []  # nothing is left of it
    events = [event for report in reports for event in report.get("events", ())]
    return events, [note for report in reports for note in report.get("notes", ())], reports[-1]


def test_a_training_that_ended_on_one_node_goes_on_on_another(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "die").touch()
    events, notes, last = train(asked, tmp_path / "node1", monkeypatch)
    assert (last["ended"]["code"], notes) == (3, [])
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    events, notes, last = train(asked, tmp_path / "node2", monkeypatch)
    assert last["ended"]["code"] == 0
    assert notes == ["goes on from checkpoint-4 of a training that was lost"]
    assert [event["step"] for event in events if event["event"] in {"resumed", "step"}] == [4, 5, 6]
    assert [(name, content) for name, _, content in last["files"]] == [
        ("adapter_config.json", b"{}"),
        ("adapter_model.safetensors", b"of 1 records"),
    ]
    Kept(asked["checkpoints"], KEY).clear()
    assert list((tmp_path / "nfs/kept").iterdir()) == []


def test_a_store_that_fails_costs_one_note_and_no_training(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked["checkpoints"] = f"{tmp_path}/nowhere/kept"
    events, notes, last = train(asked, tmp_path / "node", monkeypatch)
    assert last["ended"]["code"] == 0
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert notes == [
        f"checkpoints can't be fetched: {tmp_path}/nowhere/kept is not there: no such folder: {tmp_path}/nowhere/kept; the training begins anew\n"
        "  fix: make it, or mend engine.checkpoints"
    ]


def test_another_job_begins_anew(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "die").touch()
    train(asked, tmp_path / "node1", monkeypatch)
    asked["key"] = f"sha256:{'cd' * 32}"
    events, notes, _ = train(asked, tmp_path / "node2", monkeypatch)
    assert notes == []
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
