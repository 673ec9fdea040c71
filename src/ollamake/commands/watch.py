"""`doit watch [SELECTOR...]`: on a save, checks what was saved and shows what a build would do. Trains only when it is told to."""

from __future__ import annotations

import importlib.util
import json as to_json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.exceptions import InvalidCommand

from ollamake.commands.keys import BUILD, QUIT, Keys
from ollamake.commands.look import AS_JSON, OptionsAnywhere
from ollamake.commands.options import need_dodo
from ollamake.commands.plan import STALE
from ollamake.commands.select import EXCLUDE
from ollamake.errors import BuildError, as_printed
from ollamake.events import FORMAT, Lines
from ollamake.say import DIM, RED, YELLOW, coloured, folded
from ollamake.spelling import counted
from ollamake.watching import Watched

BUILDS = {
    "name": "build",
    "long": "build",
    "type": bool,
    "default": False,
    "help": "build at once what trains nothing; a training still waits for `b`",
}
POLL = {
    "name": "poll",
    "long": "poll",
    "type": bool,
    "default": False,
    "help": "look every second, where a file system tells nothing of changes (NFS)",
}
NO_CACHE = "--no-cache"  # one that does not answer would hold up every save
MOST = 20  # lines of a plan, or of what was found, that are shown
QUIET, AT_MOST, OFTEN = (
    100,
    1500,
    200,
)  # milliseconds: without a save until it is looked at; until it is looked at anyhow; between two looks for a key
COLOURS = {"!": RED, "?": DIM, "-": DIM}  # of the lines of a plan, by their signs


class WatchCommand(OptionsAnywhere, DoitCmdBase):
    """Watch."""

    name = "watch"
    doc_purpose = "on a save, check what was saved and show what a build would do; train only when told"
    doc_usage = "[SELECTOR...]"
    doc_description = (
        "Watches dodo.py, the catalogs and the files of datasets. `b` or Enter builds, `q` or Ctrl-C ends. Needs the package watchfiles: "
        "pip install 'ollamake[watch]'."
    )
    cmd_options = (AS_JSON, EXCLUDE, BUILDS, POLL)

    def execute(self, params: Any, args: list[str]) -> int:
        """Watch until it is ended. Returns the exit code. Raises what doit prints as an error."""
        if importlib.util.find_spec("watchfiles") is None:
            raise InvalidCommand(as_printed(BuildError("watching needs the package watchfiles", fix="pip install 'ollamake[watch]'")))
        dodo = need_dodo(params)
        assert dodo is not None  # the tasks of a watch are a file's
        os.chdir(params["cwdPath"] or os.path.dirname(dodo))
        selection = [*args, *(word for one in params["exclude"] for word in ("--exclude", one))]
        watch = Watch(os.path.relpath(dodo), selection, json=params["json"], builds=params["build"], polls=params["poll"])
        try:
            return watch.run()
        except KeyboardInterrupt:
            return 0


class Watch:
    """One watch. All that it says comes from `doit check` and `doit plan`, each in a process of its own: nothing is left of the last save but files."""

    def __init__(self, dodo: str, selection: Sequence[str], *, json: bool, builds: bool, polls: bool) -> None:
        self.selection = list(selection)
        self.builds = builds
        self.polls = polls
        self.lines = Lines(sys.stdout) if json else None
        self.doit = [sys.executable, "-m", "doit"]
        self.dodo = dodo
        self.watched = Watched(dodo)
        self.is_sound = False  # could the catalogs be read?

    def run(self) -> int:
        """Watch until it is ended."""
        with Keys() as keys:
            self.look()
            folders = self.watched.folders()
            if self.lines is None:
                how = "b builds, q ends" if keys.are_there else "Ctrl-C ends"
                count = counted(len(self.watched.datasets), "dataset")
                print(
                    f"watching {counted(len(self.watched.catalogs), 'catalog')} and {count} in {counted(len(folders), 'folder')}; {how}", flush=True
                )
            else:
                self.lines.write({"event": "watch begins", "format": FORMAT, "folders": len(folders)})
            self.plan()
            while True:
                with _at_work(self.turns(), keys) as turns:
                    for key in turns:
                        if key == QUIT:
                            return 0
                        if key == BUILD:
                            keys.given_back(self.build)
                            self.watch_again()
                        elif paths := self.watched.changed():
                            self.saved(paths)
                        if self.watched.folders() != folders:
                            folders = self.watched.folders()
                            break

    def turns(self) -> Iterator[Any]:
        """What watchfiles tells of these folders, or nothing now and then."""
        from watchfiles import watch

        yield set()  # what was changed while nobody watched
        yield from watch(
            *self.watched.folders(),
            watch_filter=None,
            debounce=AT_MOST,
            step=QUIET,
            rust_timeout=OFTEN,
            yield_on_timeout=True,
            force_polling=self.polls or None,
            poll_delay_ms=1000,
            recursive=False,
        )

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What doit says to this."""
        command = [*self.doit, words[0], "-f", self.dodo, "-d", ".", *words[1:]]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False, env=environment
        )

    def look(self) -> set[str]:
        """Read the catalogs again. Returns the datasets that are new in them, or have other files."""
        told = self.ask("ls", "--files", "--json", *self.selection)
        self.is_sound = told.returncode == 0
        if not self.is_sound:
            named = re.findall(r"""["']([^"'\n]+\.ya?ml)["']""", Path(self.dodo).read_text(encoding="utf-8", errors="replace"))
            self.watched.take_catalogs([*named, *re.findall(r"^([^:\n]+\.ya?ml):\d+: ", told.stderr, flags=re.MULTILINE)])
            return set()
        return self.watched.take(to_json.loads(told.stdout))

    def saved(self, paths: set[str]) -> None:
        """Something was saved: check it, and show what a build would do."""
        datasets = set(self.watched.datasets_of(paths))
        if paths & self.watched.of_the_catalog or not paths <= self.watched.files or not self.is_sound or not datasets:
            datasets |= self.look() | set(self.watched.datasets_of(paths))
        touched = [name for name in self.watched.datasets if name in datasets]
        check = self.ask("check", *(["--json"] if self.lines else []), *touched) if touched and self.is_sound else None
        if self.lines is None:
            print(
                f"\n{time.strftime('%H:%M:%S')}  {', '.join(sorted(paths)[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''}", flush=True
            )
            if check is not None:
                show(check.stdout + check.stderr, lambda line: RED if check.returncode else YELLOW if "warning: " in line else "")
            self.plan()
        else:
            facts = {"check": _object(check.stdout)} if check is not None else {}
            plan = self.ask("plan", "--json", NO_CACHE, *self.selection)
            error = _without_error(plan.stderr) or None
            self.lines.write({"event": "saved", "files": sorted(paths), **facts, "plan": _object(plan.stdout), "error": error})
        if self.builds and self.is_sound and (check is None or check.returncode == 0):
            self.build_what_is_cheap()

    def plan(self) -> None:
        """Show what a build would do."""
        if self.lines is not None:
            return
        told = self.ask("plan", NO_CACHE, *self.selection)
        if told.returncode not in {0, STALE}:
            show(_without_error(told.stderr), lambda _: RED)
            return
        show(told.stderr + told.stdout, lambda line: COLOURS.get(line[:1], ""))

    def build(self) -> None:
        """Build what is selected. Ctrl-C ends the build, and not the watch."""
        command = [*self.doit, "build", "-f", self.dodo, "-d", ".", *(["--json"] if self.lines else []), *self.selection]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as doit:
            while doit.poll() is None:
                with suppress(KeyboardInterrupt):
                    doit.wait()

    def watch_again(self) -> None:
        """Say that keys are heard again."""
        if self.lines is None:
            print(f"\n{time.strftime('%H:%M:%S')}  watching again", flush=True)

    def build_what_is_cheap(self) -> None:
        """Build, where that trains nothing."""
        plan = _object(self.ask("plan", "--json", *self.selection).stdout)
        if plan and plan["steps"] and not plan["trainings_at_most"]:
            self.build()
            self.watch_again()


@contextmanager
def _at_work(turns: Iterator[Any], keys: Keys) -> Iterator[Iterator[str]]:
    """A key for each turn, or none; watching ends with the block."""
    try:
        yield (keys.pressed() for _ in turns)
    finally:
        close: Callable[[], None] = getattr(turns, "close", lambda: None)
        close()


def show(text: str, colour: Callable[[str], str]) -> None:
    """Show these lines, in their colours; of many the first, and the last, which sums them up."""
    lines = text.rstrip().splitlines()
    if len(lines) > MOST:
        lines = [*lines[: MOST - 2], f"   ... and {len(lines) - MOST + 1} more", lines[-1]]
    for line in lines:
        for part in folded(line, sys.stdout, indent="  "):
            print(coloured(part, colour(line), sys.stdout), flush=True)


def _without_error(text: str) -> str:
    """What doit prints behind `ERROR: `."""
    return text.removeprefix("ERROR:").strip()


def _object(text: str) -> Any:
    try:
        return to_json.loads(text)
    except ValueError:
        return None
