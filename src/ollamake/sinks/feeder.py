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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError, without_fix
from ollamake.moments import seconds_of
from ollamake.said import cleaned
from ollamake.said import said as said_by
from ollamake.sinks.port import KILLED, Outcome, Point, Sink, TrainingRun, sink
from ollamake.state.files import read_object, write_whole

LOOK = 0.5  # seconds between two looks at the events
LAST = 20.0  # seconds that it has when nobody tells it anything more
TRIES = 3  # before a sink is given up
REST = 10.0  # seconds after a failure until events are handed on again: a server that starts anew is back by then
MOST = 1_000_000  # bytes of events that a sink is handed at once
CURVES = ("loss", "learning_rate", "tokens_per_second")

Facts = dict[str, Any]


@dataclass(kw_only=True)
class Told:
    """A training that is handed on."""

    sink: Sink | None  # None: it has not taken its begin yet
    run: Facts
    events: Path
    at: int  # bytes of them that the sink has taken
    memory: Path
    facts: Facts  # id of its run

    @property
    def has_more(self) -> bool:
        """Is there something that the sink has not taken?"""
        return self.sink is None or (self.events.exists() and self.events.stat().st_size > self.at)


class Feeder:
    """Of one sink."""

    def __init__(self, name: str, options: Mapping[str, Any], tell: Callable[[Facts], None]) -> None:
        self.name, self.options, self.tell = name, options, tell
        self.told: dict[str, Told] = {}
        self.notes: list[Facts] = []  # of trainings that may not have ended yet: another process may tell of them
        self.failures = 0  # one after the other
        self.rests_until = 0.0  # time.monotonic()
        self.is_given_up = False

    def take(self, said: Facts) -> None:
        """Take what ollamake says."""
        if self.is_given_up:
            return
        if said["do"] == "begin":
            memory, events = Path(said["memory"]), Path(said["events"])
            self.told[said["training"]] = Told(sink=None, run=said["run"], events=events, at=said["at"], memory=memory, facts={})
            self.look()
        elif said["do"] == "note":
            self.notes.append(said)
        elif said["training"] in self.told:
            told = self.told.pop(said["training"])
            self.tried(lambda: self._end(told, Outcome(**said["outcome"])), TRIES)

    def look(self) -> None:
        """Hand on what has happened."""
        # One that has nothing new says nothing of how its sink is.
        for told in [told for told in self.told.values() if time.monotonic() >= self.rests_until and told.has_more]:
            self.tried(lambda told=told: self._hand_on(told), 1)  # type: ignore[misc]  # mypy infers no type of it
        self._take_notes()

    def end(self) -> None:
        """Nobody says anything any more: what still runs has been killed, with its build."""
        for told in self.told.values():
            self.tried(lambda told=told: self._end(told, Outcome(state=KILLED)), TRIES)  # type: ignore[misc]  # as above
        self.told.clear()
        end = time.monotonic() + LAST / 2
        self._take_notes()
        while self.notes and not self.is_given_up and time.monotonic() < end:
            time.sleep(LOOK)
            self._take_notes()

    def tried(self, act: Callable[[], Any], tries: int) -> None:
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
                self.rests_until = time.monotonic() + REST
                if self.failures >= TRIES:
                    what, fix = without_fix(str(error)) if isinstance(error, BuildError) else (said_by(error), None)
                    self._give_up(
                        cleaned(what), fix or f"look after it, or remove sinks.{self.name} from the catalog; the training goes on without it"
                    )
                elif tries > 1:
                    time.sleep(LOOK)
            else:
                self.failures = 0
                return

    def _give_up(self, what: str, fix: str) -> None:
        self.is_given_up = True
        self.tell({"warning": what, "fix": fix})

    def _begun(self, told: Told) -> Sink:
        """The sink of a training, which is told that it begins where it has not taken that yet."""
        if told.sink is None:
            made = sink(self.name, self.options)
            told.facts = {"id": made.begin(TrainingRun(**told.run, id=read_object(told.memory).get("id")))}
            write_whole(told.memory, json.dumps(told.facts) + "\n")
            told.sink = made
        return told.sink

    def _take_notes(self) -> None:
        """Hand on the notes of trainings that have ended."""
        ended = {said["memory"]: known for said in self.notes if "adapter" in (known := read_object(Path(said["memory"])))}
        for said in [said for said in self.notes if said["memory"] in ended]:
            self.notes.remove(said)
            known = ended[said["memory"]]
            if known["adapter"] == said["adapter"] and isinstance(known.get("id"), str):  # else the run was of another adapter
                self.tried(lambda said=said, known=known: self._note(said, known), TRIES)  # type: ignore[misc]  # as above

    def _note(self, said: Facts, known: Facts) -> None:
        made = sink(self.name, self.options)
        id_ = made.begin(TrainingRun(**said["run"], id=known["id"]))
        made.note(said["facts"])
        made.end(None)
        if id_ != known["id"]:  # that one was no longer there
            write_whole(Path(said["memory"]), json.dumps({**known, "id": id_}) + "\n")

    def _hand_on(self, told: Told) -> Sink:
        """Hand on what was added to the events; what the sink does not take is read again the next time. Returns it."""
        taking = self._begun(told)
        while piece := _added(told.events, told.at):
            points = list(points_in(piece.decode(errors="replace")))
            if points:
                taking.points(points)
            told.at += len(piece)
        return taking

    def _end(self, told: Told, outcome: Outcome) -> None:
        self._hand_on(told).end(outcome)
        write_whole(told.memory, json.dumps({**told.facts, "adapter": outcome.facts.get("adapter")}) + "\n")


def _added(events: Path, at: int) -> bytes:
    """Whole lines that stand there, as many as are handed on at once."""
    try:
        with events.open("rb") as file:
            file.seek(at)
            whole, newline, _ = file.read(MOST).rpartition(b"\n")
    except OSError:  # not there yet
        return b""
    return whole + newline


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
