"""The process that a sink has for itself: it is told of trainings in lines of JSON, follows their events in their files, and hands them on.

It ends when its standard input closes, and some seconds later whatever the sink does then. Of a sink that fails it tells once, and hands on no more.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollamake.moments import seconds_of
from ollamake.sinks.port import KILLED, Outcome, Point, Sink, TrainingRun, sink
from ollamake.state.files import read_object, write_whole

LOOK = 0.5  # seconds between two looks at the events
LAST = 20.0  # seconds that it has when nobody tells it anything more
TRIES = 3  # before a sink is given up
MOST = 5000  # events that wait for a sink; the oldest go
CURVES = ("loss", "learning_rate", "tokens_per_second")
_LENGTH = 200  # characters of what a library says

Facts = dict[str, Any]


@dataclass(kw_only=True)
class Told:
    """A training that is handed on."""

    sink: Sink
    events: Path
    at: int  # bytes of them that were read
    memory: Path
    facts: Facts  # id of its run
    waiting: list[Point] = field(default_factory=list)


class Feeder:
    """Of one sink."""

    def __init__(self, name: str, options: Mapping[str, Any], tell: Callable[[Facts], None]) -> None:
        self.name, self.options, self.tell = name, options, tell
        self.told: dict[str, Told] = {}
        self.notes: list[Facts] = []  # of trainings that may not have ended yet: another process may tell of them
        self.failures = 0  # one after the other
        self.is_given_up = False

    def take(self, said: Facts) -> None:
        """Take what ollamake says."""
        if self.is_given_up:
            return
        if said["do"] == "begin":
            self.tried(lambda: self._begin(said), TRIES)
        elif said["do"] == "note":
            self.notes.append(said)
        elif said["training"] in self.told:
            told = self.told.pop(said["training"])
            self._read(told)
            self.tried(lambda: self._end(told, Outcome(**said["outcome"])), 1)

    def look(self) -> None:
        """Hand on what has happened."""
        for told in self.told.values():
            self._read(told)
            if told.waiting and not self.is_given_up:
                self.tried(lambda told=told: self._hand_on(told), 1)  # type: ignore[misc]  # mypy infers no type of it
        self._take_notes()

    def end(self) -> None:
        """Nobody says anything any more: what still runs has been killed, with its build."""
        for told in self.told.values():
            self._read(told)
            self.tried(lambda told=told: self._end(told, Outcome(state=KILLED)), 1)  # type: ignore[misc]  # as above
        self.told.clear()
        end = time.monotonic() + LAST / 2
        self._take_notes()
        while self.notes and not self.is_given_up and time.monotonic() < end:
            time.sleep(LOOK)
            self._take_notes()

    def tried(self, act: Callable[[], None], tries: int) -> None:
        """Do it, and again where it fails; a sink that has failed TRIES times in a row is given up."""
        for _ in range(tries):
            if self.is_given_up:
                return
            try:
                act()
            except ImportError as error:
                self._give_up(f"its library is not installed ({error})", f"pip install 'ollamake[{self.name}]', or remove sinks.{self.name}")
            except Exception as error:  # noqa: BLE001 - any library's
                self.failures += 1
                if self.failures >= TRIES:
                    self._give_up(_said(error), f"look after it, or remove sinks.{self.name} from the catalog; the training goes on without it")
            else:
                self.failures = 0
                return

    def _give_up(self, what: str, fix: str) -> None:
        self.is_given_up = True
        self.tell({"warning": f"sink {self.name}: {what}", "fix": fix})

    def _begin(self, said: Facts) -> None:
        memory = Path(said["memory"])
        before = read_object(memory).get("id")
        made = sink(self.name, self.options)
        run = TrainingRun(**said["run"], id=before)
        facts = {"id": made.begin(run)}
        write_whole(memory, json.dumps(facts) + "\n")
        self.told[said["training"]] = Told(sink=made, events=Path(said["events"]), at=said["at"], memory=memory, facts=facts)

    def _take_notes(self) -> None:
        """Hand on the notes of trainings that have ended."""
        ended = {said["memory"]: known for said in self.notes if "adapter" in (known := read_object(Path(said["memory"])))}
        for said in [said for said in self.notes if said["memory"] in ended]:
            self.notes.remove(said)
            known = ended[said["memory"]]
            if known["adapter"] == said["adapter"] and isinstance(known.get("id"), str):  # else the run was of another adapter
                self.tried(lambda said=said, known=known: self._note(said, known["id"]), TRIES)  # type: ignore[misc]  # as above

    def _note(self, said: Facts, id_: str) -> None:
        made = sink(self.name, self.options)
        made.begin(TrainingRun(**said["run"], id=id_))
        made.note(said["facts"])
        made.end(None)

    def _read(self, told: Told) -> None:
        """Take what was added to the events."""
        try:
            with told.events.open("rb") as file:
                file.seek(told.at)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:  # not there yet
            return
        told.at += len(whole) + len(newline)
        told.waiting = [*told.waiting, *points_in(whole.decode(errors="replace"))][-MOST:]

    def _hand_on(self, told: Told) -> None:
        if told.waiting:
            told.sink.points(told.waiting)
            told.waiting = []

    def _end(self, told: Told, outcome: Outcome) -> None:
        self._hand_on(told)
        told.sink.end(outcome)
        write_whole(told.memory, json.dumps({**told.facts, "adapter": outcome.facts.get("adapter")}) + "\n")


def points_in(lines: str) -> Iterator[Point]:
    """What of lines of events.jsonl belongs into curves; the rest is left out, torn lines too."""
    for line in lines.splitlines():
        try:
            event = json.loads(line)
            at = seconds_of(event["time"])
            if event["event"] == "step":
                values = {name: float(event[name]) for name in CURVES if event.get(name) is not None}
            elif event["event"] == "evaluation":
                values = {"holdout_loss": float(event["loss"])}
            else:
                continue
            yield Point(step=int(event.get("step", 0)), time=at, values=values)
        except (ValueError, KeyError, TypeError):
            continue


def _said(error: Exception) -> str:
    """What a library says, on one line, without what is secret in our environment."""
    text = " ".join(str(error).split()) or type(error).__name__
    for name, value in os.environ.items():
        if any(part in name.upper() for part in ("KEY", "TOKEN", "PASS", "SECRET")) and len(value) > 3:
            text = text.replace(value, "***")
    return text[:_LENGTH]


def main() -> None:
    """Work through what comes on standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print, too

    def tell(facts: Facts) -> None:
        answers.write(json.dumps(facts) + "\n")
        answers.flush()

    if hasattr(os, "nice"):
        os.nice(10)
    feeder = Feeder(sys.argv[1], json.loads(sys.stdin.readline())["options"], tell)
    coming: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            coming.put(line)
        coming.put(None)
        time.sleep(LAST)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = coming.get(timeout=LOOK)
        except queue.Empty:
            line = ""
        if line is None:
            break
        if line:
            feeder.take(json.loads(line))
        else:
            feeder.look()
    feeder.end()
    answers.flush()


if __name__ == "__main__":
    main()
