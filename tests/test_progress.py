"""How a training is seen: plain lines where there is no terminal, one live bar where there is one."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from rich.console import RenderHook

from ollamake.bars import A_SECOND, Bars, shared
from ollamake.duration import duration
from ollamake.progress import AskingProgress, TrainingProgress, step_facts, transferring, waiting
from ollamake.say import say, screen
from ollamake.trainers.port import Event, json_event
from terminal import HEIGHT, left_on_screen, on_a_terminal

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
    written = on_a_terminal("import test_progress; test_progress.show()")
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
    waited, sending, trained, *rest = filter(None, left_on_screen(written))
    assert "installing" in waited
    assert "100.0/100.0 MB" in sending
    assert trained.startswith("   legal ━━━")
    assert rest == []  # questions leave nothing


def test_of_very_many_at_once_each_says_less(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def lines_a_minute(count: int) -> float:
        with ExitStack() as stack:
            trainings = [stack.enter_context(TrainingProgress(f"model-{number}")) for number in range(count)]
            for step in range(600):
                clock[0] += 1
                for training in trainings:
                    training.show(Event(kind="step", step=step, steps=1000))
        return capsys.readouterr().out.count("\n") / 10

    assert lines_a_minute(1) == 6
    assert lines_a_minute(8) == 48
    assert 48 <= lines_a_minute(80) <= 60
    assert lines_a_minute(1) == 6


def train_many(count: int = 30) -> None:
    """So many trainings in threads; half of them tell something, and all say something in the end."""
    all_there, told, ended = threading.Barrier(count + 1), threading.Barrier(count + 1), threading.Barrier(count + 1)

    def train(number: int) -> None:
        with TrainingProgress(f"model-{number:02}") as progress:
            all_there.wait()
            if number % 2:
                progress.show(Event(kind="step", step=3, steps=4, loss=0.5))
            told.wait()
            progress.show(Event(kind="note", step=3, reason=f"[bold]:smile: {'is long ' * 40}"))
            ended.wait()
            progress.show(Event(kind="step", step=4, steps=4, loss=0.25))
        say(f"   model-{number:02} is done")

    threads = [threading.Thread(target=train, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    all_there.wait()
    told.wait()
    say("all have told")
    ended.wait()
    for thread in threads:
        thread.join()
    with TrainingProgress("another") as progress:  # after the display has gone
        progress.show(Event(kind="step", step=1, steps=1))


def test_many_trainings_at_once_share_one_display() -> None:
    written = on_a_terminal("import test_progress; test_progress.train_many()")
    lines = left_on_screen(written)
    said = ["all have told", *(f"   model-{number:02} is done" for number in range(30))]
    assert [lines.count(line) for line in said] == [1] * len(said)  # each is there, and no bar was drawn over it
    assert "".join(lines).count("is long") == 30 * 40
    bars = [line for line in lines if "━" in line]
    assert sorted(line.split()[0] for line in bars) == sorted(["another", *(f"model-{number:02}" for number in range(30))])
    assert all("step 4/4  loss 0.2500" in line for line in bars if "another" not in line)
    assert "and 20 more, 15 of them not begun" in written  # where 15 that have something to show go first, and 10 of them fit
    assert not [line for line in lines if "more" in line]
    assert written.count("\x1b[?25l") == 2  # a display for the thirty, and one for what came after them
    assert written.rstrip().endswith("\x1b[?25h")


def test_as_many_bars_are_drawn_as_there_are_lines() -> None:
    written = on_a_terminal(f"import test_progress; test_progress.train_many({HEIGHT - 1})")
    assert "more" not in written
    written = on_a_terminal(f"import test_progress; test_progress.train_many({HEIGHT})")
    assert "and 2 more" in written


def write_while_the_bars_grow_and_shrink() -> None:
    """Lines above bars that are of another height each time that they are drawn; to write a line takes longer than from one drawing to the next."""
    from rich.text import Text

    bars = shared()
    assert isinstance(bars, Bars)
    heights = itertools.cycle((1, 5, 2))
    bars.stand(lambda _: [Text("at the foot")] * next(heights))

    class Slow(RenderHook):
        def process_renderables(self, renderables: list[Any]) -> list[Any]:
            if threading.current_thread() is threading.main_thread():
                time.sleep(2 / A_SECOND)
            return renderables

    bars.console.push_render_hook(Slow())
    for number in range(4):
        say(f"line {number}")
    bars.console.pop_render_hook()
    bars.stand(None)


def test_bars_are_not_drawn_while_a_line_is_written_above_them() -> None:
    written = on_a_terminal("import test_progress; test_progress.write_while_the_bars_grow_and_shrink()")
    assert [line for line in left_on_screen(written) if line] == [f"line {number}" for number in range(4)]


def leave_with_bars() -> None:
    """A run that is ended while threads train that nobody waits for."""
    begun = threading.Event()

    def train() -> None:
        with TrainingProgress("legal") as progress:
            progress.show(Event(kind="step", step=3, steps=4))
            begun.set()
            time.sleep(3600)

    threading.Thread(target=train, daemon=True).start()
    begun.wait()
    sys.exit(0)


def test_a_run_that_ends_before_its_trainings_leaves_a_terminal_with_a_cursor_and_without_bars() -> None:
    written = on_a_terminal("import test_progress; test_progress.leave_with_bars()")
    assert "step 3/4" in written
    assert "\x1b[?25h" in written[written.rindex("step 3/4") :]
    assert "".join(left_on_screen(written)) == ""


def fork_with_bars() -> None:
    """A process is copied while bars are shown and another thread writes."""
    with TrainingProgress("legal") as progress:
        progress.show(Event(kind="step", step=3, steps=4))
        has_it, free = threading.Event(), threading.Event()

        def hold() -> None:
            with screen.lock:
                has_it.set()
                free.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        has_it.wait()
        child = os.fork()
        if child == 0:
            say("a child says")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        free.set()
        holder.join()


def test_a_child_process_has_no_bars_and_waits_for_nobody() -> None:
    assert "a child says" in on_a_terminal(
        "import warnings, test_progress; warnings.simplefilter('ignore'); test_progress.fork_with_bars()"  # of Python's, about forks and threads
    )


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
