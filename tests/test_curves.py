"""How trainings went: what is kept of their events when the next one writes them anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Repo
from ollamake.stages.curves import KEPT, POINTS, curve_in, curves_folder, keep_curve, kept_curves, thinned
from test_report import model


def told(path: Path, losses: Sequence[float | None], *, at: int = 0, **more: Any) -> Path:
    """The events of a training with these losses."""
    events: list[dict[str, Any]] = [{"event": "start", "steps": len(losses)}]
    events += [{"event": "step", "step": step, "steps": len(losses), "loss": loss, **more} for step, loss in enumerate(losses, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"time": f"2026-11-26T19:{at:02}:00Z", **event}) + "\n" for event in events), encoding="utf-8")
    return path


def test_a_long_training_is_thinned_and_its_extremes_stay(tmp_path: Path) -> None:
    losses: list[float | None] = [10 - step / 10_000 for step in range(50_000)]
    losses[20_000], losses[30_000] = 99.0, -1.0
    curve = curve_in(told(tmp_path / "events.jsonl", losses, learning_rate=0.1))
    assert curve is not None
    assert len(curve.steps) <= POINTS
    assert (curve.steps[0], curve.steps[-1]) == (1, 50_000)
    assert (max(filter(None, curve.loss)), min(filter(None, curve.loss))) == (99.0, -1.0)
    assert list(curve.steps) == sorted(set(curve.steps))
    assert set(curve.learning_rate) == {0.1}


def test_a_short_training_is_kept_whole() -> None:
    points = [(step, None, 0.1) for step in range(POINTS)]
    assert thinned(points) == points


def test_steps_that_were_done_twice_count_once(tmp_path: Path) -> None:
    events = told(tmp_path / "events.jsonl", [5.0, 4.0, 3.0])
    with events.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "resumed", "step": 1}) + "\n" + json.dumps({"event": "step", "step": 2, "loss": 4.5}) + "\n")
        file.write(json.dumps({"event": "evaluation", "step": 3, "loss": 6.0}) + "\n" + '{"event": "step", "ste')
    curve = curve_in(events)
    assert curve is not None
    assert (curve.steps, curve.loss) == ((1, 2, 3), (5.0, 4.5, 3.0))
    assert (curve.held_out_steps, curve.held_out_loss) == ((3,), (6.0,))


def test_so_many_trainings_are_kept_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(KEPT + 3):
        keep_curve("legal", told(tmp_path / "events.jsonl", [float(number)], at=number), f"sha256:{number}")
    assert [curve.loss for curve in kept_curves("legal")] == [(float(number),) for number in range(KEPT + 2, 2, -1)]
    assert len(list(curves_folder("legal").iterdir())) == KEPT


def test_a_training_that_was_broken_off_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events = told(tmp_path / "events.jsonl", [3.0, 2.0])
    events.write_text("".join(events.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    keep_curve("legal", events)
    assert kept_curves("legal") == []


def test_a_curve_that_can_t_be_kept_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".ollamake").write_bytes(b"a file")
    keep_curve("legal", told(tmp_path / "events.jsonl", [3.0]), "sha256:1")


def test_the_page_shows_the_training_of_now_and_those_before(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = model("legal", monkeypatch).curves
    assert (only.label, only.is_current, only.steps, only.loss) == ("now", True, (2,), (0.5,))
    Path(".ollamake/curves/legal").rename(".ollamake/curves/of-before")  # as of an ollamake that kept none
    told(Path("build/legal/events.jsonl"), [4.0, 3.0])
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    built.doit("train:legal")
    now, before = model("legal", monkeypatch).curves
    assert (now.label, now.is_current, now.loss) == ("now", True, (0.5,))
    assert (before.label, before.is_current, before.loss) == ("2026-11-26 19:00 UTC", False, (4.0, 3.0))


def test_an_adapter_from_elsewhere_has_no_training_of_now(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = Path("adapters/legal/receipt.json")
    facts = json.loads(receipt.read_text(encoding="utf-8"))
    facts["outcome"]["cache"] = "s3://bucket"
    facts["record"]["targets"] = dict.fromkeys(facts["record"]["targets"], "sha256:0")
    receipt.write_text(json.dumps(facts), encoding="utf-8")
    assert [curve.is_current for curve in model("legal", monkeypatch).curves] == [False]
