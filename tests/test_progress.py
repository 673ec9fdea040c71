"""How a training is seen: plain lines where there is no terminal, one live bar where there is one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from ollamake.duration import duration
from ollamake.progress import AskingProgress, TrainingProgress, step_facts, transferring, waiting
from ollamake.trainers.port import Event, json_event

EVENTS = (
    Event(kind="loading"),
    Event(kind="start", examples=10, tokens=500, steps=4),
    Event(kind="step", step=1, steps=4, loss=1.25, tokens_per_second=99.6, seconds_left=192.4),
    Event(kind="step", step=2, steps=4, loss=1.0),
    Event(kind="step", step=4, steps=4, loss=0.5, tokens_per_second=100.0, seconds_left=0.0),
    Event(kind="done"),
)


def show() -> None:
    with waiting("   installing"):
        pass
    with transferring("   sending model.gguf", 100_000_000) as advance:
        advance(100_000_000)
    with transferring("   sending adapter.gguf", 1000) as advance:
        advance(1000)
    with TrainingProgress("legal") as progress:
        for event in EVENTS:
            progress.show(event)
    with AskingProgress("sales") as asking:
        asking.show(1, 3)
        asking.show(3, 3)


def on_a_terminal() -> str:
    """What show() writes to a real pseudo-terminal, 200 columns wide."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm-256color", "PYTHONPATH": os.path.dirname(__file__)}
    program = [sys.executable, "-c", "import test_progress; test_progress.show()"]
    with subprocess.Popen(program, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        written = b""
        try:
            while part := os.read(parent, 65536):
                written += part
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(parent)
        process.wait()
    assert process.returncode == 0, written.decode()
    return written.decode()


def test_without_a_terminal_there_are_plain_lines_and_not_one_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    assert capsys.readouterr().out == (
        "   installing\n"
        "   legal: loading the base\n"
        "   legal: 10 records, 500 tokens, 4 steps\n"
        "   legal: step 1/4  loss 1.2500  100 tokens/s  3 min 12 s left\n"
        "   legal: step 4/4  loss 0.5000  100 tokens/s  0.0 s left\n"
    )


def test_on_a_terminal_there_is_one_live_bar() -> None:
    written = on_a_terminal()
    assert "installing" in written
    assert "sending model.gguf" in written
    assert "100.0/100.0 MB" in written
    assert "adapter.gguf" not in written  # gone at once
    assert "legal" in written
    assert "━" in written
    assert "step 4/4  loss 0.5000  100 tokens/s  0.0 s left" in written
    assert "sales: questions" in written
    assert "3/3" in written
    assert written.count("\n") <= 8  # the bars are drawn over themselves


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (59.6, "1 min 0 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_a_trainer_does_not_tell_is_left_out() -> None:
    assert step_facts(Event(kind="step", step=1, steps=2)) == ""
    assert step_facts(Event(kind="step", step=1, steps=2, seconds_left=3.0)) == "3.0 s left"


@pytest.mark.parametrize(
    "line",
    [
        *("", "loss 0.3", "[1]", "3", '{"loss": 1}', '{"event": "step", "step": 1', "null", '{"event": "downloading"}', '{"event": "failed"}'),
        *('{"event": "step", "step": "3"}', '{"event": "step", "loss": "0.3"}', '{"event": "step", "seconds_left": Infinity}'),
        *('{"event": "step", "loss": NaN}', '{"event": "step", "step": true}', '{"event": "failed", "reason": 3}', '{"event": ["step"]}'),
    ],
)
def test_a_line_that_is_no_event_is_for_the_log(line: str) -> None:
    assert json_event(line) is None


def test_unknown_facts_of_an_event_are_passed_over() -> None:
    assert json_event('{"event": "step", "step": 3, "steps": 9, "gpu": 1}') == Event(kind="step", step=3, steps=9)


def test_questions_are_counted_and_only_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with AskingProgress("legal", quiet=0.0) as progress:
        progress.show(1, 20)
    assert capsys.readouterr().out == "   legal: question 1/20\n"
    with AskingProgress("legal") as progress:
        progress.show(1, 20)
        progress.show(2, 20)
    assert capsys.readouterr().out == ""
