"""The history of a clone: what each commit changed, from the one that is checked out backwards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.git import Clone
from ollamake.moments import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit changed against the one before it."""

    commit: str
    at: str  # ISO 8601, in UTC
    subject: str
    files: dict[str, str | None]  # path from the clone's root -> git's id of its content before; None: it was not there


def head() -> str | None:
    """The commit that is checked out; None where there is none, or no git."""
    with suppress(BuildError):
        return Clone(root=Path(), prefix="", is_shallow=False).said("rev-parse", "--verify", "HEAD").decode().strip()
    return None


def ids_at_head(clone: Clone) -> dict[str, str]:
    """Git's id of each file of that commit. Raises BuildError."""
    parts = (line.partition(b"\t") for line in clone.said("ls-tree", "-r", "-z", "--full-tree", "HEAD").split(b"\0")[:-1])
    return {os.fsdecode(raw): facts.decode().split()[2] for facts, _, raw in parts}


def walked(clone: Clone, most: int) -> Iterator[Change]:
    """So many commits back, by their first parents. Raises BuildError."""
    form = ("--format=%x01%H %ct %s", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff", "--first-parent", "-m", f"-n{most}")
    change, facts = None, ""
    for raw in clone.said("log", *form).split(b"\0"):
        text = os.fsdecode(raw.lstrip(b"\n"))
        if facts and change is not None:
            before = facts.split()[2]
            change.files[text] = before if before.strip("0") else None
            facts = ""
        elif text.startswith("\x01"):
            if change is not None:
                yield change
            commit, seconds, subject = text[1:].split(" ", 2)
            change = Change(commit=commit, at=moment(int(seconds)), subject=_text(subject), files={})
        elif text.startswith(":"):
            facts = text
    if change is not None:
        yield change


def sizes(clone: Clone, ids: Iterable[str]) -> dict[str, int]:
    """The bytes of what git has under these ids; without those that it has not got. Raises BuildError."""
    asked = "".join(f"{id_}\n" for id_ in dict.fromkeys(ids))
    said = clone.said("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", told=asked.encode()).decode()
    parts = (line.split() for line in said.splitlines())
    return {part[0]: int(part[2]) for part in parts if len(part) == 3}


def _text(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")
