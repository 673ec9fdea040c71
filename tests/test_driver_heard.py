"""What a driver of a cluster tells is heard to its end, whatever becomes of those that it is told to."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ollamake.engines.ray_client import Driver


class Gone:
    """A standard output that nobody reads."""

    def isatty(self) -> bool:
        return False

    def write(self, _: str) -> None:
        raise BrokenPipeError

    flush = write


def test_that_nobody_reads_what_is_said_keeps_no_training_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [{"waits": "legal", "for": "GPU: 1", "has": "no node"}, {"id": 7, "ended": {}}, {"id": 1, "ended": {}}]
    (tmp_path / "told").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    driver = Driver.__new__(Driver)
    driver.address, driver._one, driver.end = "10.0.0.2:6379", threading.Lock(), None
    answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
    driver.answers = {1: answers}  # nobody waits for 7
    with (tmp_path / "told").open(encoding="utf-8") as told:
        driver.process = cast("Any", SimpleNamespace(stdout=told))
        monkeypatch.setattr(sys, "stdout", Gone())
        driver._hear()
    assert answers.get_nowait() == {"id": 1, "ended": {}}
    assert answers.get_nowait() == {"gone": True}
    assert "was lost" in str(driver.end)
