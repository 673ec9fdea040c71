"""How a training, or what is sent, is seen while it runs: one live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import TracebackType

from ollamake.bars import ASKING, SENDING, TRAINING, WAITING, Bar, bar
from ollamake.duration import duration
from ollamake.say import EVENTS, has_bars, say, screen
from ollamake.spelling import counted
from ollamake.trainers.port import Event

QUIET = 10.0  # seconds at least between two plain lines
TALKERS = 8  # trainings at once that each may say a line in that time; of more each says less
LARGE = 50_000_000  # bytes from which on sending is worth a bar


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what is waited for; on a terminal, with the time that it takes."""
    if not has_bars():
        say(text)
        yield
        return
    with bar(WAITING, text, total=None):
        yield


@contextmanager
def transferring(text: str, size: int) -> Iterator[Callable[[int], None]]:
    """A function that is told how many bytes more have gone. Shows a bar for what is large, and lines where there is no terminal and it takes long."""
    if not has_bars():
        yield _lines(text, size)
    elif size < LARGE:
        yield lambda _: None
    else:
        with bar(SENDING, text, total=size) as shown:
            yield shown.advance


def _lines(text: str, size: int) -> Callable[[int], None]:
    """Says how far it is, QUIET seconds after it began and then as often."""
    gone, shown = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal gone, shown
        gone += count
        if time.monotonic() - shown >= QUIET:
            shown = time.monotonic()
            say(f"{text}: {gone / 1e6:.0f} of {size / 1e6:.0f} MB")

    return advance


class TrainingProgress:
    """Shows the events of one training on standard output. Any number of them may do so at once, in threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._open = ExitStack()
        self._shows: _LiveBar | _PlainLines | _Events = _Events(name) if screen.way == EVENTS else _PlainLines(name)

    def __enter__(self) -> TrainingProgress:
        self._open.enter_context(_at_once.one_more())
        if has_bars():
            self._shows = _LiveBar(self.name, self._open.enter_context(bar(TRAINING, self.name, total=None, facts="starting")))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def show(self, event: Event) -> None:
        """Show what the training tells."""
        self._shows.show(event)

    def begins(self, text: str, *, is_begun: bool = True) -> None:
        """Show how far it is before it tells anything, where there is a bar."""
        if isinstance(self._shows, _LiveBar):
            self._shows.bar.update(facts=text)
            self._shows.bar.begun = is_begun


class AskingProgress:
    """Shows on standard output how many of a model's questions are answered."""

    def __init__(self, name: str, *, quiet: float = QUIET) -> None:
        """`quiet`: seconds at least between two plain lines."""
        self.name = name
        self.quiet = quiet
        self._open = ExitStack()
        self._plain = None if has_bars() else _PlainLines(name)
        self._bar: Bar | None = None

    def __enter__(self) -> AskingProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def show(self, answered: int, of: int) -> None:
        """Show it: on a terminal as a bar, elsewhere as a line now and then."""
        if self._plain is not None:
            now = time.monotonic()
            self._plain.shown = self._plain.shown or now  # the first line comes when there is something to wait for
            if now - self._plain.shown >= self.quiet:
                self._plain.shown = now
                self._plain.line(f"question {answered}/{of}")
            return
        if self._bar is None:
            self._bar = self._open.enter_context(bar(ASKING, self.name, total=of, stays=False))
        self._bar.update(completed=answered, total=of)


class _AtOnce:
    """How many trainings there are now in this process."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    @contextmanager
    def one_more(self) -> Iterator[None]:
        with self._lock:
            self.count += 1
        try:
            yield
        finally:
            with self._lock:
                self.count -= 1

    @property
    def quiet(self) -> float:
        """Seconds at least between two plain lines of each of them."""
        return QUIET * max(1, self.count / TALKERS)


_at_once = _AtOnce()


class _PlainLines:
    def __init__(self, name: str) -> None:
        self.name = name
        self.shown = 0.0

    def show(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "loading":
            self.line("loading the base")
        elif event.kind == "start":
            self.line(f"{_read(event)}, {event.steps} steps")
        elif event.kind == "step" and (now - self.shown >= _at_once.quiet or event.step == event.steps):
            self.shown = now
            self.line(f"step {event.step}/{event.steps}  {step_facts(event)}")
        elif (text := _said(event)) is not None:
            self.line(text)

    def line(self, text: str) -> None:
        say(f"   {self.name}: {text}")


class _Events:
    """For programs: each event but steps, of which not more than people would be shown."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown = 0.0

    def show(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "step" and now - self.shown < _at_once.quiet / QUIET and event.step != event.steps:
            return
        if event.kind == "step":
            self.shown = now
        if screen.tell is not None:
            nothing = asdict(Event(kind=event.kind))
            facts = {name: value for name, value in asdict(event).items() if value != nothing[name]}
            screen.tell({"event": "training", "model": self.name, "what": event.kind, **facts})


class _LiveBar:
    def __init__(self, name: str, shown: Bar) -> None:
        self.name = name
        self.bar = shown

    def show(self, event: Event) -> None:
        if event.kind == "loading":
            self.bar.update(facts="loading the base")
        elif event.kind == "start":
            self.bar.update(total=event.steps, facts=_read(event))
        elif event.kind == "step":
            facts = f"step {event.step}/{event.steps}  {step_facts(event)}"
            self.bar.update(completed=event.step, total=event.steps, facts=facts)
        elif (text := _said(event)) is not None:
            say(f"   {self.name}: {text}")


def _read(event: Event) -> str:
    tokens = f", {event.tokens} tokens" if event.tokens else ""  # not each trainer counts them
    return f"{counted(event.examples, 'record')}{tokens}"


def _said(event: Event) -> str | None:
    """What is worth a line of its own, whatever else is shown."""
    if event.kind == "resumed":
        return f"goes on behind step {event.step} of {event.steps}"
    if event.kind == "evaluation" and event.loss is not None:
        epoch = "" if event.epoch is None else f"epoch {event.epoch:g}: "
        return f"{epoch}loss of the records that are held out {event.loss:.4f}"
    return event.reason if event.kind == "note" else None


def step_facts(event: Event) -> str:
    """`loss 0.4680  154 tokens/s  1 min 12 s left`; what the trainer does not tell is left out."""
    facts = []
    if event.loss is not None:
        facts.append(f"loss {event.loss:.4f}")
    if event.tokens_per_second is not None:
        facts.append(f"{event.tokens_per_second:.0f} tokens/s")
    if event.seconds_left is not None:
        facts.append(f"{duration(event.seconds_left)} left")
    return "  ".join(facts)
