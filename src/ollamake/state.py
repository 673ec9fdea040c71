"""What a repo remembers of its builds: doit's own database, the receipts of steps, and how a file's content is told.

Receipts of steps whose target is a file lie in `build/`, those of a server under `.ollamake/hosts/`: another machine has another Ollama.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from doit.dependency import FileChangedChecker

from ollamake.digest import digest_file
from ollamake.graph import BUILD, Step

LOCAL = ".ollamake"  # of this machine alone; safe to delete


class ContentChecker(FileChangedChecker):
    """Tells doit whether a file changed: by its digest, and by its size and times only where all of them are the same.

    doit's own checker takes an equal mtime for an unchanged file; a file that was put back with its time kept is missed so.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: list[Any]) -> bool:
        """Is the file another than when `state` was got?"""
        *known, digest = state
        return known != _signature(file_stat) and file_digest(file_path) != digest

    def get_state(self, dep: str, current_state: list[Any] | None) -> list[Any] | None:
        """What check_modified compares with; None where current_state still holds."""
        signature = _signature(os.stat(dep))
        if current_state and current_state[:-1] == signature:
            return None
        return [*signature, file_digest(dep)]


def file_digest(path: str | Path) -> str:
    """The digest of this file's content, read once as long as size, times and inode stay. Raises OSError."""
    return _digest(str(path), *_signature(os.stat(path)))


def _signature(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


@cache
def _digest(path: str, *_signature: int) -> str:
    return digest_file(Path(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a step was last done from, and what came of it."""

    files: dict[str, str]  # path -> digest of what was read
    keys: dict[str, Any]  # what the catalog said
    outcome: dict[str, Any]  # the stage's own facts
    seconds: float  # it took


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in this file, or None where there is none that can be read."""
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Keep the receipt in this file, whole or not at all."""
    write_whole(path, json.dumps(asdict(receipt), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def receipt_path(step: Step, host: str) -> Path:
    """Where a step's receipt is kept; `host` is the server's name as a file may be called."""
    if not step.writes:
        return Path(LOCAL, "hosts", host, f"{step.stage}-{step.name}.json")
    name = "datasets" if step.stage == "validate" else step.name
    return Path(BUILD, name, f"{step.id.replace(':', '-')}.receipt.json")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write the file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
