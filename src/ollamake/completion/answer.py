"""What the scripts of shells ask: `answer.main()` with a shell, and the command line up to the cursor. Says nothing of what goes wrong."""

from __future__ import annotations

import glob
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ollamake.completion.words import Word, candidates, typed, wants_files

INIT = (("--example", "with records, and a task that fetches a small base"), ("--editor", "with settings and tasks for this editor"))


def main() -> None:
    """Print the words that may stand there, a line each: what is typed, and where the shell shows it, a tab and what it is."""
    shell, *words = sys.argv[1:]
    if shell == "bash":
        line, breaks = words
        words = _split(line)
    for word, what in answers(words[0], words[1:-1], words[-1]):
        if shell == "bash":
            cut = max((words[-1].rfind(one) + 1 for one in ":=" if one in breaks), default=0)
            quoted = "".join(f"\\{letter}" if letter in " '\"()&;<>|$`\\*?[" else letter for letter in word[cut:])
            sys.stdout.write(f"{quoted}\n")
        else:
            sys.stdout.write(f"{word}\t{what}\n")


def _split(line: str) -> list[str]:
    """The words of a line of bash's, the last of which the cursor is in."""
    for end in ("", "'", '"'):
        try:
            words = shlex.split(line + end)
        except ValueError:
            continue
        return [*words, ""] if line[-1:].isspace() and not end else words
    return line.split()


def answers(program: str, words: Sequence[str], current: str) -> Iterator[Word]:
    """The words that may stand there."""
    if Path(program).name == "ollamake":
        yield from _of_init(words, current)
        return
    from ollamake.completion.commands import known_commands
    from ollamake.completion.names import DODO, known_names

    commands = known_commands()
    so_far = typed(words, commands)
    dodo = so_far.loader.get("file", DODO)
    folder = so_far.loader.get("dir") or os.path.dirname(dodo)
    here = os.getcwd()
    if folder:
        dodo = os.path.abspath(dodo)
        os.chdir(os.path.expanduser(folder))
    try:
        names = known_names(dodo)
    finally:
        os.chdir(here)
    yield from candidates(so_far, current, commands, names)
    if wants_files(so_far, current, commands):
        yield from _files(current)


def _of_init(words: Sequence[str], current: str) -> Iterator[Word]:
    if "init" not in words:
        yield from ((name, what) for name, what in (("init", "write a new repo that builds"),) if name.startswith(current))
    elif words[-1] == "--editor":
        yield from ((name, "") for name in ("vscode",) if name.startswith(current))
    elif current.startswith("-"):
        yield from ((word, what) for word, what in INIT if word.startswith(current))
    else:
        yield from (found for found in _files(current) if found[0].endswith("/"))


def _files(current: str) -> Iterator[Word]:
    home = os.path.expanduser(current)
    for path in sorted(glob.glob(f"{glob.escape(home)}*")):
        yield f"{current}{path[len(home) :]}{'/' if os.path.isdir(path) else ''}", ""


def run() -> None:
    """As main; whatever goes wrong, the shell is told of nothing."""
    try:
        main()
    except Exception:  # noqa: BLE001 - a faulty dodo.py is not to be said while somebody types
        sys.exit(1)
