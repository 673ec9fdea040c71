"""A page of the docs as a session at a terminal: its files are written, its commands typed, and what they print is held against what the page shows.

In a page, a block whose first line has `title="PATH"` is a file, and one of the language `console` is commands, each behind `$ `, with what they print. There,
a line `...` stands for any number of lines. Times, speeds, losses, ages, dates, digests and ports are compared as such, whatever their numbers.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
END = "\x1eend of it "  # what the shell is made to say behind each command
NUMBERS = (
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "DATE"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"127\.0\.0\.1:\d+"), "SERVER"),
    (re.compile(r"\b(\d+(\.\d+)? (s|min|h|minutes?|hours?|days?)( \d+ (s|min|h))?|just now)\b"), "TIME"),
    (re.compile(r"\b\d+ tokens/s"), "SPEED"),
    (re.compile(r"\bloss \d+\.\d+"), "LOSS"),
    (re.compile(r"\bstep \d+/"), "step N/"),  # which ones are told depends on the time that they take
    (re.compile(r" {2,}"), "  "),  # columns are as wide as what stands in them
)


@dataclass(frozen=True)
class File:
    """A file that the page shows."""

    path: str
    text: str


@dataclass(frozen=True)
class Command:
    """What is typed, and what the page says that it prints."""

    typed: str
    shown: tuple[str, ...]


def steps(page: str) -> Iterator[File | Command]:
    """What a page does, in its order."""
    for language, title, text in BLOCK.findall(page):
        if title:
            yield File(title, text)
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                typed, _, shown = part.partition("\n")
                yield Command(typed, tuple(shown.splitlines()))


def shown_in_text(page: str) -> Iterator[Command]:
    """The sessions of a page that shows them indented, as README.md does: one for each block that begins with a command of `.venv/bin`."""
    for typed, shown in re.findall(r"^    \$ \.venv/bin/(.*)\n((?:    .*\n|\n(?=    ))*)", page, flags=re.MULTILINE):
        yield Command(typed, tuple(line.removeprefix("    ") for line in shown.splitlines()))


def plain(line: str) -> str:
    """A line without what is another each time."""
    for pattern, name in NUMBERS:
        line = pattern.sub(name, line)
    return line.rstrip()


def is_as_shown(printed: list[str], shown: tuple[str, ...]) -> bool:
    """Are these the lines that the page shows, but for what it leaves out?"""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(plain(line)) + "\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{plain(line)}\n" for line in printed)) is not None


class Terminal:
    """A shell in a folder, which stays where its commands have led it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.folder = folder

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.close()
        self.shell.wait()
        self.shell.stdout.close()

    def type(self, command: str) -> list[str]:
        """The lines that a command prints, on standard output and standard error; `$?` is its exit code for the next one."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(f'{command}\n{{ c=$?; printf "\\n{END}%s\\n" "$PWD"; (exit $c); }}\n')
        self.shell.stdin.flush()
        lines = []
        for line in self.shell.stdout:
            if line.startswith(END):
                self.folder = Path(line.removeprefix(END).rstrip("\n"))
                break
            lines.append(line.rstrip("\n"))
        return lines[:-1] if lines and not lines[-1] else lines

    def write(self, file: File) -> None:
        """Write a file of the page, seen from where the shell is."""
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
