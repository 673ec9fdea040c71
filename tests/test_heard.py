"""What is said of a training on a cluster, by what its driver tells."""

from __future__ import annotations

import io
import json
from typing import Any, cast

import pytest

from ollamake.engines.ray import _Heard
from ollamake.progress import TrainingProgress
from ollamake.trainers.port import Job
from terminal import left_on_screen, on_a_terminal

BEGAN: dict[str, Any] = {"began": "10.0.0.3", "version": "0.1.0", "events": [{"time": "now", "event": "step", "step": 7, "steps": 9, "loss": 0.5}]}
AGAIN: dict[str, Any] = {"again": "the node died", "try": 1, "of": 3}


class OfLegal:
    name = "legal"


def hear(*told: dict[str, Any]) -> tuple[str, str]:
    """What is in the log and in the events, once all of this is told."""
    log, events = io.StringIO(), io.StringIO()
    with TrainingProgress("legal") as progress:
        heard = _Heard(cast("Job", OfLegal()), log, events, progress)
        for facts in told:
            heard.hear(facts)
    return log.getvalue(), events.getvalue()


def test_a_node_that_is_lost_is_said_with_how_far_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    log, events = hear(BEGAN, AGAIN, {**AGAIN, "try": 2})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "   legal: node 10.0.0.3 was lost behind step 7; begun again (1 of 3)",
        "   legal: its node was lost; begun again (2 of 3)",
    ]
    assert log == "the node died\nthe node died\n"
    assert json.loads(events)["step"] == 7


def test_a_base_is_worth_a_line_where_it_is_large(capsys: pytest.CaptureFixture[str]) -> None:
    hear({"sends": 400_000}, {"sends": 700_000_000})
    assert capsys.readouterr().out == "   legal: the base is sent to the cluster, 700 MB\n"


def show() -> None:
    hear({"began": "10.0.0.3", "version": "0.1.0"})


def test_a_bar_says_on_which_node_a_training_starts() -> None:
    assert any(
        line.startswith("   legal") and line.endswith("starting on 10.0.0.3")
        for line in left_on_screen(on_a_terminal("import test_heard; test_heard.show()"))
    )
