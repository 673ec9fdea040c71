"""The live bars of this process, whatever threads they are of: one display at the foot of the terminal, above which all else is said."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from ollamake.say import screen

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.progress import Progress, TaskID
    from rich.table import Table
    from rich.text import Text

TRAINING, ASKING, SENDING, WAITING = "training", "asking", "sending", "waiting"  # kinds of bars, in their order on the screen
A_SECOND = 4  # times that the bars are drawn


Foot: TypeAlias = "Callable[[int], list[Text]]"  # the columns of a terminal -> lines


class Shows(Protocol):
    """What shows bars."""

    def add(self, kind: str, text: str, *, total: float | None, facts: str) -> Bar:
        """Show one more."""

    def update(self, of: Bar, **facts: Any) -> None:
        """Show this of a bar."""

    def remove(self, ended: Bar, *, stays: bool) -> None:
        """Show one less; its last state `stays` on the screen."""

    def stand(self, foot: Foot | None) -> None:
        """Show these lines below the bars, whether there are some or not; None: no more."""

    def end(self) -> None:
        """The run is over: take all off the screen, and show nothing of what still goes on."""


@dataclass(slots=True, eq=False)
class Bar:
    """A line of the display."""

    of: Shows
    kind: str
    task: int  # of rich, or of a relay
    begun: bool = False  # one that waits gives way to those that have something to show

    def update(self, **facts: Any) -> None:
        """Show this from now on: `total`, `completed`, `facts`; as rich's own."""
        self.begun = True
        self.of.update(self, **facts)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.update(advance=count)


@contextmanager
def bar(kind: str, text: str, *, total: float | None, stays: bool = True, facts: str = "") -> Iterator[Bar]:
    """A bar of its own, while the block lasts; then its last state `stays` on the screen as a line, above those that are left."""
    bars = shared()
    added = bars.add(kind, text, total=total, facts=facts)
    try:
        yield added
    finally:
        bars.remove(added, stays=stays)


class Bars:
    """What is drawn: the bars that fit on the terminal, and how many there are beside them."""

    def __init__(self) -> None:
        from rich.console import Console

        # doit hands out its own sys.stdout, which rich can't measure: the width is asked of the terminal itself.
        self.console = Console(file=sys.__stdout__)
        self.kinds = _kinds(self.console)
        self.shown: tuple[Bar, ...] = ()  # replaced, never changed
        self.foot: Foot | None = None
        self.is_over = False
        self.live: Live | None = None
        self.stopped = threading.Event()  # of the thread that draws
        atexit.register(self.stop)  # trainings in threads that nobody waits for may leave their bars, and no cursor

    def add(self, kind: str, text: str, *, total: float | None, facts: str) -> Bar:
        """Show one more."""
        with screen.lock:
            added = Bar(self, kind, self.kinds[kind].add_task(text, total=total, facts=facts))
            self.shown = (*self.shown, added)
            self.draw()
        return added

    def stand(self, foot: Foot | None) -> None:
        """Show these lines below the bars."""
        with screen.lock:
            self.foot, self.is_over = foot, False
            if foot is not None:
                self.draw()
            elif not self.shown:
                self.stop()

    def draw(self) -> None:
        """Have the bars on the screen from now on."""
        from rich.live import Live

        if self.live is None and not self.is_over:
            # Its own redirection of sys.stdout would get in the way of doit's, which is another in each thread; see ollamake.say.
            self.live = Live(self, console=self.console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False, transient=True)
            self.live.start(refresh=True)
            screen.above = self.write
            self.stopped = threading.Event()
            threading.Thread(target=self._draw_again, args=(self.live, self.stopped), daemon=True).start()

    def _draw_again(self, live: Live, stopped: threading.Event) -> None:
        """Draw the bars now and then. rich's own thread would do so while a line is written above them, from where they were before: over a line."""
        while not stopped.wait(1 / A_SECOND):
            with screen.lock:
                if not stopped.is_set():
                    live.refresh()

    def update(self, of: Bar, **facts: Any) -> None:
        """Show this of a bar."""
        self.kinds[of.kind].update(_of_rich(of), **facts)

    def remove(self, ended: Bar, *, stays: bool) -> None:
        """Show one less."""
        with screen.lock:
            if self.live is not None and not stays:
                self.live.refresh()  # as it was in the end
            last = self._table([ended])
            self.shown = tuple(one for one in self.shown if one is not ended)
            self.kinds[ended.kind].remove_task(_of_rich(ended))
            if stays and not self.is_over:
                self.console.print(last)
            if not self.shown and self.foot is None:
                self.stop()

    def write(self, lines: str) -> None:
        """Write lines above the bars."""
        self.console.out(lines.removesuffix("\n"), highlight=False)

    def end(self) -> None:
        """The run is over, whoever still trains: threads, or processes that were ended and told no more."""
        with screen.lock:
            self.is_over = True
            self.stop()

    def stop(self) -> None:
        """Take the bars off the screen."""
        with screen.lock:
            self.stopped.set()
            live, self.live, screen.above = self.live, None, None
            if live is not None:
                live.stop()

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> Iterator[Any]:
        shown = sorted(self.shown, key=lambda one: not one.begun)
        foot = self.foot(console.width) if self.foot is not None else []
        foot = foot[-max(1, console.height - 2) :]  # the last line says most
        room = max(0 if foot else 1, console.height - 1 - len(foot))
        more = shown[max(0, room - 1) :] if len(shown) > room else []
        fit = shown[: len(shown) - len(more)]
        for kind in self.kinds:
            if of_kind := [one for one in fit if one.kind == kind]:
                yield self._table(of_kind)
        if more and room:
            waiting = sum(not one.begun for one in more)
            yield f"   and {len(more)} more" + (f", {waiting} of them not begun" if waiting else "")
        yield from foot

    def _table(self, bars: list[Bar]) -> Table:
        progress, wanted = self.kinds[bars[0].kind], {one.task for one in bars}
        tasks = [task for task in progress.tasks if task.id in wanted]
        return progress.make_tasks_table(tasks)


def _kinds(console: Console) -> dict[str, Progress]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    def text(said: str) -> TextColumn:
        return TextColumn(said, markup=False)

    columns = {
        TRAINING: (text("   {task.description}"), BarColumn(), text("{task.fields[facts]}")),
        ASKING: (text("   {task.description}: questions"), BarColumn(), MofNCompleteColumn()),
        SENDING: (text("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()),
        WAITING: (SpinnerColumn(), text("{task.description}"), TimeElapsedColumn()),
    }
    return {kind: Progress(*parts, console=console, auto_refresh=False) for kind, parts in columns.items()}


def _of_rich(bar: Bar) -> TaskID:
    return cast("TaskID", bar.task)


_shared: list[Shows] = []  # none, or what shows the bars of this process


def use(shows: Shows) -> None:
    """Have the bars of this process shown by this."""
    _shared[:] = [shows]


def shared() -> Shows:
    """What shows the bars of this process."""
    with screen.lock:
        if not _shared:
            _shared.append(Bars())
        return _shared[0]


def drawn() -> Bars | None:
    """What is on the screen now, and drawn by this process."""
    return next((shows for shows in _shared if isinstance(shows, Bars) and shows.live is not None), None)


def end() -> None:
    """The run of this process is over: its terminal has its cursor again."""
    for shows in _shared:
        shows.end()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.clear)
