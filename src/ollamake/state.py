"""What a repo remembers of its builds: doit's own database, the receipts of steps, and how a file's content is told.

A receipt says what a step was last done from, and what it made. It lies beside the target: in `build/`, for an adapter in the adapter's own folder;
for a step whose target is a server, under `.ollamake/hosts/`: another machine has another Ollama.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from doit.dependency import FileChangedChecker

from ollamake.catalog.load import MARKERS
from ollamake.digest import digest_file
from ollamake.graph import BUILD, Step

LOCAL = ".ollamake"  # of this machine alone; safe to delete
RECEIPT = "receipt.json"  # in an adapter's folder


# Nanoseconds. A file that was written so shortly ago may be written again without a change of its times, whose clock ticks each 4 or 10 ms.
JUST_NOW = 100_000_000


class ContentChecker(FileChangedChecker):
    """Tells doit whether a file changed, by its digest.

    doit's own checker takes an equal mtime for an unchanged file; a file that was put back with its time kept is missed so.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: str) -> bool:  # noqa: ARG002 - the names are doit's
        """Is the file another than when `state` was got?"""
        try:
            return file_digest(file_path) != state
        except OSError:  # may not be read: the step says so, when it runs
            return True

    def get_state(self, dep: str, current_state: str | None) -> str | None:
        """What check_modified compares with; None where current_state still holds."""
        digest = file_digest(dep)
        return None if digest == current_state else digest


class DigestCache:
    """Digests of files, by size, times and inode: a base of gigabytes is read once, not with every build."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[Any]] | None = None  # path -> size, mtime_ns, inode, ctime_ns, digest
        self.dirty = False

    def digest(self, path: str) -> str:
        """The digest of this file's content. Raises OSError."""
        if self.known is None:
            self.known = _read_object(self.path)
        stat = os.stat(path)
        signature = [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]
        known = self.known.get(path)
        if isinstance(known, list) and known[:-1] == signature:
            return str(known[-1])
        digest = digest_file(Path(path))
        if time.time_ns() - stat.st_ctime_ns > JUST_NOW:
            self.known[path] = [*signature, digest]
            self.dirty = True
        return digest

    def save(self) -> None:
        """Keep what was read, for the next build. Where that can't be done, it reads again."""
        if self.dirty:
            try:
                write_whole(self.path, json.dumps(self.known))
            except OSError:
                return
            self.dirty = False


_caches: dict[str, DigestCache] = {}  # one for each folder that this process has built in


def digest_cache() -> DigestCache:
    """The cache of the repo that is built, which is the working directory."""
    return _caches.setdefault(os.getcwd(), DigestCache(Path(LOCAL, "digests.json").absolute()))


def file_digest(path: str | Path) -> str:
    """The digest of this file's content, read once as long as size, times and inode stay. Raises OSError."""
    return digest_cache().digest(str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a step was last done from, and what came of it."""

    files: dict[str, str]  # path, or name of the base -> digest of what was read
    keys: dict[str, Any]  # what the catalog said
    targets: dict[str, str]  # path -> digest of what was made
    outcome: dict[str, Any]  # the stage's own facts
    seconds: float  # it took


# Makes the receipt of a step from the digests of its targets and the stage's own facts.
Sealed: TypeAlias = Callable[[Mapping[str, str], Mapping[str, Any]], Receipt]


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in this file, or None where there is none that can be read."""
    try:
        return Receipt(**_read_object(path))
    except TypeError:
        return None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Keep the receipt in this file, whole or not at all."""
    write_whole(path, json.dumps(asdict(receipt), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def receipt_path(step: Step, host: str) -> Path:
    """Where a step's receipt is kept; `host` is the server's name as a file may be called."""
    if not step.writes:
        return Path(LOCAL, "hosts", host, f"{step.stage}-{step.name}.json")
    if step.stage == "train":
        return Path(step.writes[0]).parent / RECEIPT
    name = MARKERS if step.stage == "validate" else step.name
    return Path(BUILD, name, f"{step.stage}-{step.name}.{RECEIPT}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Write the file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
