"""A training on a node, as a cluster has it done there, and its checkpoints: it goes on elsewhere, and ends whatever their store does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamake.digest import digest_file
from ollamake.engines import on_node, watch
from ollamake.engines.checkpoints import Kept
from ollamake.engines.node_files import wanted
from ollamake.engines.on_node import trained

KEY = f"sha256:{'ab' * 32}"


@pytest.fixture(autouse=True, scope="module")
def _keeper_ends() -> Iterator[None]:
    """What ends a worker's programs with it ends with these tests."""
    yield
    keeper = watch._keeper()
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait()
    watch._keeper.cache_clear()


@pytest.fixture
def asked(tmp_path: Path, resuming: Path) -> dict[str, Any]:
    """What a node is asked; its trainer is a plugin that is installed there."""
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
        "recipe": {"rank": 2},
        "gpus": 0,
        "trainer": "resuming",
        "versions": {},
        "digests": {"text.jsonl": digest_file(tmp_path / "text.jsonl")},
    }
    return {
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


def test_a_training_that_ended_on_one_node_goes_on_on_another(
    asked: dict[str, Any], resuming: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (resuming / "fail").touch()
    events, notes, last = train(asked, tmp_path / "node1", monkeypatch)
    assert (last["ended"]["code"], notes) == (3, [])
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    events, notes, last = train(asked, tmp_path / "node2", monkeypatch)
    assert last["ended"]["code"] == 0
    assert notes == ["goes on from checkpoint-4 of a training that was lost"]
    assert [event["step"] for event in events if event["event"] in {"resumed", "step"}] == [4, 5, 6]
    assert [name for name, *_ in last["files"]] == ["adapter_config.json", "adapter_model.safetensors"]
    Kept(asked["checkpoints"], KEY).clear()
    assert list((tmp_path / "nfs/kept").iterdir()) == []


def test_a_store_that_fails_costs_one_note_and_no_training(
    asked: dict[str, Any], resuming: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked["checkpoints"] = f"{tmp_path}/nowhere/kept"
    events, notes, last = train(asked, tmp_path / "node", monkeypatch)
    assert last["ended"]["code"] == 0
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert notes == [
        f"checkpoints can't be fetched: {tmp_path}/nowhere/kept is not there: no such folder: {tmp_path}/nowhere/kept; the training begins anew\n"
        "  fix: make it, or mend engine.checkpoints"
    ]


def test_another_job_begins_anew(asked: dict[str, Any], resuming: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (resuming / "fail").touch()
    train(asked, tmp_path / "node1", monkeypatch)
    asked["key"] = f"sha256:{'cd' * 32}"
    events, notes, _ = train(asked, tmp_path / "node2", monkeypatch)
    assert notes == []
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_a_program_that_no_node_has_is_said_with_how_it_gets_there(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked["facts"]["recipe"]["command"] = ["nowhere/trainer"]
    asked.update(trainer="command", checkpoints=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    *_, last = trained(asked, [("text.jsonl", asked["facts"]["digests"]["text.jsonl"], b"{}\n")], [b"a base"], gpus=0, where="10.0.0.3")
    assert last["refused"] == (
        "the trainer can't be started: nowhere/trainer: No such file or directory\n"
        "  fix: name one by a path that the nodes have, or send it: `engine: {runtime_env: {working_dir: .}}`"
    )


def test_all_of_a_long_log_comes(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_node, "MOST_LOG", 1001)  # a character has two bytes
    asked["facts"]["recipe"]["command"] = [
        sys.executable,
        "-c",
        "import sys; sys.stdout.reconfigure(encoding='utf-8'); print('é' * 5000); print('it ends')",
    ]
    asked.update(trainer="command", checkpoints=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = ("text.jsonl", asked["facts"]["digests"]["text.jsonl"], b"{}\n")
    reports = list(trained(asked, [text], [b"a base"], gpus=0, where="10.0.0.3"))
    assert "".join(report.get("log", "") for report in reports) == f"{'é' * 5000}\nit ends\n"


def test_a_folder_that_another_user_has_put_there_is_refused(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.getuid", lambda: 4711)
    *_, last = trained(asked, [], [b"a base"], gpus=0, where="10.0.0.3")
    assert last["refused"].startswith(f"{tmp_path}/ollamake-4711 is another user's\n  fix: remove it, or set TMPDIR")
