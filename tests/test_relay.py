"""Bars and lines of a process of `doit -n N`, drawn by the one that started it."""

from __future__ import annotations

import multiprocessing
from typing import Any

from ollamake import bars
from ollamake.bars import SENDING, TRAINING, bar
from ollamake.progress import TrainingProgress
from ollamake.relay import Relay, Relayed, relay
from ollamake.say import say
from ollamake.trainers.port import Event
from terminal import left_on_screen, on_a_terminal


def train(name: str) -> None:
    with TrainingProgress(name) as progress:
        for step in range(1, 40):
            progress.show(Event(kind="step", step=step, steps=39, loss=0.5))
            if step % 10 == 0:
                say(f"   {name}: {step} is said")


def of_two_processes() -> None:
    forks = multiprocessing.get_context("fork")
    told: Any = forks.Queue()

    def other() -> None:
        relay(told.put)
        train("other")
        told.put(None)

    process = forks.Process(target=other)
    process.start()
    relayed = Relayed()
    with TrainingProgress("own") as progress:
        progress.show(Event(kind="step", step=1, steps=2, loss=0.5))
        while (one := told.get()) is not None:
            relayed.take(one)
        progress.show(Event(kind="step", step=2, steps=2, loss=0.5))
    process.join()


def test_lines_and_bars_of_two_processes_stand_below_one_another() -> None:
    written = on_a_terminal("import test_relay; test_relay.of_two_processes()")
    lines = [" ".join(line.replace("━", "").split()) for line in left_on_screen(written) if line]
    assert lines == [*(f"other: {step} is said" for step in (10, 20, 30)), "other step 39/39 loss 0.5000", "own step 2/2 loss 0.5000"]
    assert written.count("\x1b[?25l") == 1  # one display


def test_where_there_is_no_terminal_nothing_is_relayed() -> None:
    told: list[Any] = []
    relay(told.append)
    train("legal")
    assert told == []


def test_of_states_that_come_fast_the_last_is_sent() -> None:
    told: list[dict[str, Any]] = []
    bars.use(Relay(told.append))
    try:
        with bar(SENDING, "sending", total=100) as shown:
            for _ in range(100):
                shown.advance(1)
        with bar(TRAINING, "legal", total=9) as shown:
            for step in range(10):
                shown.update(completed=step, facts=f"step {step}")
    finally:
        bars._shared.clear()
    (sending, legal) = (
        {one["bar"] for one in told if one.get("add", {}).get("kind") == SENDING},
        [one["update"] for one in told if "update" in one][-1],
    )
    assert sum(one["update"].get("advance", 0) for one in told if one["bar"] in sending and "update" in one) == 100
    assert legal == {"completed": 9, "facts": "step 9"}
    assert len(told) < 30
