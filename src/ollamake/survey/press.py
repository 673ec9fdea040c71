"""Pages made of facts; of many of them in a process beside this one, which finds out the next facts meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from ollamake.errors import BuildError
from ollamake.report import pages
from ollamake.report.facts import DatasetFacts, ModelFacts, dataset_page, model_page
from ollamake.survey.kept import digest_of, encoded
from ollamake.survey.site import Site, refused, write_page

MANY = 100  # pages, for which a process is worth its start


class Head(msgspec.Struct, array_like=True):
    """What is the same of all pages."""

    title: str
    path: str
    version: str
    compiled: str | None  # folder of compiled templates
    site: str  # folder

    def page(self, facts: ModelFacts | DatasetFacts) -> str:
        """The page of these facts."""
        return pages.model_page_of(facts, self) if isinstance(facts, ModelFacts) else pages.dataset_page_of(facts, self)


def path_of(facts: ModelFacts | DatasetFacts) -> str:
    """Where the page is, from the report's root."""
    return (model_page if isinstance(facts, ModelFacts) else dataset_page)(facts.row.name)


class Job(msgspec.Struct, array_like=True):
    """A page to be written: of one of the two."""

    model: ModelFacts | None = None
    dataset: DatasetFacts | None = None


class Written(msgspec.Struct, array_like=True):
    """What became of it."""

    size: int = 0
    modified: int = 0
    error: tuple[int, str, str] | None = None  # number, what it is, file


class Press:
    """Of one report."""

    def __init__(self, site: Site, head: Head, count: int) -> None:
        """`count`: pages that may come."""
        self.site = site
        self.head = head
        self._begun: list[tuple[str, str]] = []  # page, and the digest of its facts
        self._process = _started(head) if count >= MANY else None

    def __enter__(self) -> Press:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def put(self, facts: ModelFacts | DatasetFacts) -> None:
        """Have the page, unless it is there and shows the same. Raises BuildError."""
        page, digest = path_of(facts), digest_of([facts, self.head.title, self.head.path])
        if self._process is None:
            self.site.put(page, digest, partial(self.head.page, facts))
            return
        if self.site.shows(page, digest):
            return
        assert self._process.stdin is not None
        self._begun.append((page, digest))
        with suppress(BrokenPipeError):  # said when what became of it is read
            _send(self._process.stdin, encoded(Job(model=facts) if isinstance(facts, ModelFacts) else Job(dataset=facts)))

    def finish(self) -> None:
        """Wait until all are written. Raises BuildError."""
        if self._process is None:
            return
        content, _ = self._process.communicate()
        found = msgspec.msgpack.decode(content, type=list[Written]) if self._process.returncode == 0 else []
        if len(found) != len(self._begun):
            msg = f"the process that writes pages was lost: it ended with code {self._process.returncode}"
            raise BuildError(msg, fix="run `doit report` again")
        for (page, digest), one in zip(self._begun, found, strict=True):
            if one.error is not None:
                raise refused(OSError(*one.error), Path(self.head.site, page))
            self.site.wrote(page, digest, one.size, one.modified)


def _started(head: Head) -> subprocess.Popen[bytes]:
    # Ctrl-C is for this process, which ends the other.
    program = f"import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = {sys.path!r}; from {__name__} import serve; serve()"
    process = subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    _send(process.stdin, msgspec.msgpack.encode(head))
    return process


def _send(file: IO[bytes], content: bytes) -> None:
    file.write(len(content).to_bytes(4, "big") + content)


def serve() -> None:
    """Be such a process: write pages until standard input ends, then say what became of them."""
    source = sys.stdin.buffer
    head = msgspec.msgpack.decode(source.read(int.from_bytes(source.read(4), "big")), type=Head)
    if head.compiled is not None:
        pages.keep_compiled(head.compiled)
    decode = msgspec.msgpack.Decoder(Job).decode
    written: list[Written] = []
    while size := source.read(4):
        job = decode(source.read(int.from_bytes(size, "big")))
        facts = job.model or job.dataset
        assert facts is not None
        try:
            written.append(Written(*write_page(Path(head.site, path_of(facts)), head.page(facts))))
        except OSError as error:
            written.append(Written(error=(error.errno or 0, os.strerror(error.errno or 0), str(error.filename or ""))))
    sys.stdout.buffer.write(msgspec.msgpack.encode(written))
