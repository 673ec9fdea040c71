"""Digests of files, kept by size, times and inode, and how doit asks whether a file changed."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeAlias

from doit.dependency import FileChangedChecker

from ollamake.digest import digest_file
from ollamake.state.files import LOCAL, read_object, write_whole

# Nanoseconds. A file that was written so shortly ago may be written again without a change of its times, whose clock ticks each 4 or 10 ms.
JUST_NOW = 100_000_000
DECIDED = "by the step's own record"  # the state that doit is told of the file dependencies of a step

Signature: TypeAlias = list[int]  # size, mtime_ns, inode, ctime_ns


class ContentChecker(FileChangedChecker):
    """Tells doit whether a file dependency changed, by its digest.

    doit's own checker takes an equal mtime for an unchanged file; a file that was put back with its time kept is missed so. The files of
    ollamake's own steps are not looked at a second time: `uptodate` has decided by what the lock says.
    """

    def check_modified(self, file_path: str, file_stat: os.stat_result, state: str) -> bool:  # noqa: ARG002 - the names are doit's
        """Is the file another than when `state` was got?"""
        if state == DECIDED:
            return False
        try:
            return file_digest(file_path) != state
        except OSError:  # may not be read: the step says so, when it runs
            return True

    def get_state(self, dep: str, current_state: str | None) -> str | None:
        """What check_modified compares with; None where current_state still holds."""
        if current_state == DECIDED:
            return None
        digest = file_digest(dep)
        return None if digest == current_state else digest


class DigestCache:
    """Digests of files by their signatures: a base of gigabytes is read once, not with every build."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        self.known: dict[str, list[Any]] | None = None  # path -> signature and digest
        self.learnt: dict[str, list[Any]] = {}  # what is not in the file yet

    def digest(self, path: str) -> str:
        """The digest of this file's content. Raises OSError."""
        if self.known is None:
            self.known = read_object(self.path)
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):  # to read a pipe may last for ever
            raise FileNotFoundError(errno.ENOENT, "no file", path)
        signature = signature_of(stat)
        known = self.known.get(path)
        if isinstance(known, list) and known[:-1] == signature:
            return str(known[-1])
        digest = digest_file(Path(path))
        if not is_young(signature):
            self.learn({path: [*signature, digest]})
        return digest

    def learn(self, facts: Mapping[str, list[Any]]) -> None:
        """Take over what another process has read."""
        if self.known is None:
            self.known = read_object(self.path)
        self.known.update(facts)
        self.learnt.update(facts)

    def news(self) -> dict[str, list[Any]]:
        """What a child process has learnt since it was last asked, for its parent; nothing in the parent itself."""
        if os.getpid() == self.process:
            return {}
        news, self.learnt = self.learnt, {}
        return news

    def save(self) -> None:
        """Keep what was read, for the next build. Where that can't be done, it reads again."""
        if self.learnt:
            try:
                write_whole(self.path, json.dumps(self.known))
            except OSError:
                return
            self.learnt = {}


def signature_of(stat: os.stat_result) -> Signature:
    """What changes with a file's content, short of reading it."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


def is_young(signature: Signature) -> bool:
    """Was the file written so shortly ago that its signature proves nothing yet?"""
    return time.time_ns() - signature[3] <= JUST_NOW


_caches: dict[str, DigestCache] = {}  # one for each folder that this process has built in


def digest_cache() -> DigestCache:
    """The cache of the repo that is built, which is the working directory."""
    here = os.getcwd()
    if here not in _caches:
        _caches[here] = DigestCache(Path(here, LOCAL, "digests.json"))
    return _caches[here]


def file_digest(path: str | Path) -> str:
    """The digest of this file's content, read once as long as its signature stays. Raises OSError."""
    return digest_cache().digest(str(path))


def digest_if_there(path: str | Path) -> str | None:
    """The same; None where there is no such file. Raises OSError where it can't be read."""
    try:
        return file_digest(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
