"""What a run tells its sinks: each has a process of its own, which is handed lines and never waited for, but for some seconds at the end of the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ollamake.catalog.outside import SinkPlace
from ollamake.errors import BuildError, with_fix
from ollamake.said import cleaned
from ollamake.say import say
from ollamake.sinks.port import FAILED, FINISHED, KILLED
from ollamake.state.files import LOCAL, read_object, write_whole

WAIT = 15.0  # seconds at the end of a run
LOG = "sinks.log"
LARGEST = 1_000_000  # bytes of the log
MODULE = "ollamake.sinks.feeder"

Facts = dict[str, Any]


class Feed:
    """The process of one sink."""

    def __init__(self, place: SinkPlace) -> None:
        self.name = place.name
        log = Path(LOCAL, LOG)
        log.parent.mkdir(parents=True, exist_ok=True)
        how = "ab" if log.exists() and log.stat().st_size < LARGEST else "wb"
        with log.open(how) as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULE, place.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is for us
            )
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        self._one = threading.Lock()
        self.tell({"options": dict(place.options)})

    def tell(self, said: Facts) -> None:
        """Hand it a line. It reads all the time, so this does not wait."""
        assert self.process.stdin is not None  # it is a pipe
        with self._one, suppress(OSError, ValueError):  # it is gone, and has said why
            self.process.stdin.write(json.dumps(said) + "\n")
            self.process.stdin.flush()

    def begin(self, said: Facts, memory: Path, *, goes_on: bool) -> bool:
        """Tell it of a training, and note that it was told. Returns whether that could be done."""
        before = read_object(memory).get("id") if goes_on else None
        try:
            write_whole(memory, json.dumps({} if before is None else {"id": before}) + "\n")
        except OSError as error:
            warn(self.name, f"{memory}: {error.strerror}", "the training goes on without it")
            return False
        self.tell({**said, "memory": str(memory)})
        return True

    def _listen(self) -> None:
        assert self.process.stdout is not None  # it is a pipe
        for line in self.process.stdout:
            said = json.loads(line)
            warn(self.name, said["warning"], said["fix"])

    def close(self) -> None:
        """No more is told: it hands on what it has, and ends."""
        assert self.process.stdin is not None  # it is a pipe
        with suppress(OSError):
            self.process.stdin.close()

    def end(self, until: float) -> None:
        """Wait for its end, until that moment at most."""
        try:
            code = self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            warn(self.name, f"it did not take all within {WAIT:g} s", "look after its server, and into .ollamake/sinks.log")
        else:
            if code:
                warn(self.name, f"its process ended with exit code {code}", "look into .ollamake/sinks.log")
        self.listener.join(1.0)
        if not self.listener.is_alive() and self.process.stdout is not None:
            self.process.stdout.close()


_feeds: dict[tuple[int, str, str], Feed] = {}  # by process, as one that was copied has its own; by name and options, as two catalogs may have others
_guard = threading.Lock()


def feed(place: SinkPlace) -> Feed:
    """The process of this sink, started where it does not run yet. Raises OSError."""
    with _guard:
        key = os.getpid(), place.name, json.dumps(place.options)
        if key not in _feeds:
            _feeds[key] = Feed(place)
        return _feeds[key]


def close(*, waits: bool = True) -> None:
    """End the sinks of this process. `waits`: until they have handed on what they have, as far as that takes no longer than WAIT; else they do it alone."""
    with _guard:
        own = [_feeds.pop(key) for key in list(_feeds) if key[0] == os.getpid()]
    for one in own:
        one.close()
    until = time.monotonic() + WAIT
    for one in own if waits else ():
        one.end(until)


def memory_of(folder: Path, name: str) -> Path:
    """Where it is kept in which run of a sink a model was trained, and, once that has ended, which adapter came of it."""
    return folder / f"sink-{name}.json"


@contextmanager
def told(places: Sequence[SinkPlace], training: str, run: Callable[[], Facts], events: Path, *, goes_on: bool) -> Iterator[Callable[[Facts], None]]:
    """Tell the sinks of a training that runs while the block does; what is yielded is told the facts of its end where it ends well.

    `goes_on`: it goes on with events that are there, in the run of before. Nothing that goes wrong with a sink comes out of here.
    """
    ended: list[Facts] = []
    feeds = list(_started(places)) if places else []
    if feeds:
        if not goes_on:
            events.unlink(missing_ok=True)  # of the training before
        at = events.stat().st_size if events.exists() else 0
        said = {"do": "begin", "training": training, "run": run(), "events": str(events), "at": at}
        feeds = [one for one in feeds if one.begin(said, memory_of(events.parent, one.name), goes_on=goes_on)]
    outcome: Facts = {"state": KILLED}
    try:
        yield ended.append
        if ended:
            outcome = {"state": FINISHED, "facts": ended[0]}
    except BuildError as error:
        outcome = {"state": FAILED, "reason": cleaned(str(error).partition("\n")[0])}
        raise
    except OSError as error:
        outcome = {"state": FAILED, "reason": str(error.strerror or error)}
        raise
    finally:
        for one in feeds:
            one.tell({"do": "end", "training": training, "outcome": outcome})


def note(places: Iterable[SinkPlace], folder: Path, run: Callable[[], Facts], adapter: str, facts: Mapping[str, Any]) -> None:
    """Tell the sinks in whose runs the model was trained what was found out later of the adapter with this digest."""
    for one in _started([place for place in places if memory_of(folder, place.name).exists()]):
        one.tell({"do": "note", "run": run(), "memory": str(memory_of(folder, one.name)), "adapter": adapter, "facts": dict(facts)})


def _started(places: Iterable[SinkPlace]) -> Iterator[Feed]:
    for place in places:
        try:
            yield feed(place)
        except OSError as error:  # noqa: PERF203 - one of them may be there
            warn(place.name, f"it can not be started: {error.strerror}", "the training goes on without it")


def warn(name: str, what: str, fix: str) -> None:
    """Say what is wrong with the sink of this name."""
    say(f"   {with_fix(f'sink {name}: warning: {what}', fix)}")
