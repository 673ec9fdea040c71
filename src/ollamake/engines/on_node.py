"""A training on a node of a cluster: its folder made there, its program run, what it tells and makes handed back. Knows nothing of Ray."""

from __future__ import annotations

import codecs
import os
import shutil
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ollamake.digest import digest_bytes, digest_file
from ollamake.engines.hearing import Hearing, facts_of, write_files
from ollamake.engines.local import check_program_file, modules
from ollamake.engines.node_files import Wanted, place_of, received
from ollamake.engines.node_job import environment, job_in, named, new_folder, written
from ollamake.engines.watch import begun, ended
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Event, Job, Trainer, trainer

if TYPE_CHECKING:
    from ollamake.engines.checkpoints import Keeping, Kept

ON_NODES = "name one by a path that the nodes have, or send it: `engine: {runtime_env: {working_dir: .}}`"  # a program
EVERY = 0.3  # seconds between two reports of a training that goes on
PIECE = 64_000_000  # bytes of a result that travel at once
MOST_LOG = 1_000_000  # bytes of a log that travel at once

Facts = dict[str, Any]


def trained(
    told: Mapping[str, Any], files: Sequence[tuple[str, str, bytes]], base: Iterable[bytes] | None, *, gpus: int, where: str
) -> Iterator[Facts]:
    """Do a training, and report it.

    `told`: as `ollamake.engines.ray` writes it. `files`: path in the job's folder, digest and content. `base`: the base's bytes in pieces, where the
    driver has them; None: it is asked for them where they are not here. `where`: this node's address.

    Reports have "began", "events", "log" (text) and "notes"; the last one "needs" (a digest), "refused" (message and fix), "fault" (a traceback), or
    "ended", with "files" (name, digest, content), of which large ones came in pieces before.
    """
    wanted = None if told["base"] is None else Wanted.from_json(told["base"])
    place = None if wanted is None else place_of(cache_folder(), wanted)
    if wanted is not None and place is None:
        if base is None:
            yield {"needs": wanted.digest}
            return
        try:
            place = received(cache_folder(), wanted, base)
        except BuildError as error:
            yield {"refused": str(error), "where": where}
            return
    training = _Training(told, files, place, gpus=gpus)
    thread = threading.Thread(target=training.do, daemon=True)
    thread.start()
    first: Facts = {"began": where, "version": _version()}
    while not training.over.wait(EVERY):
        news = {**first, **training.news()}
        if news:
            yield news
            first = {}
    thread.join()
    while training.left():
        yield {**first, **training.news()}
        first = {}
    try:
        yield from _with_files({**first, **training.news(), **training.result}, training.made)
    finally:
        training.close()


def _with_files(last: Facts, made: Sequence[Path]) -> Iterator[Facts]:
    """The last report, with what was made; before it the pieces of what is large."""
    files: list[tuple[str, str, bytes | None]] = []
    for path in made:
        if path.stat().st_size > PIECE:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    yield {"file": path.name, "piece": piece}
            files.append((path.name, digest_file(path), None))
        else:
            content = path.read_bytes()
            files.append((path.name, digest_bytes(content), content))
    yield {**last, "files": files}


class _Training:
    """One training, in a thread of its own."""

    def __init__(self, told: Mapping[str, Any], files: Sequence[tuple[str, str, bytes]], base: Path | None, *, gpus: int) -> None:
        self.told, self.files, self.base, self.gpus = told, files, base, gpus
        self.over = threading.Event()
        self.result: Facts = {}
        self.made: list[Path] = []
        self._events: list[Facts] = []
        self._notes: list[str] = []
        self._store_fails = False
        self._guard = threading.Lock()
        self._left = ExitStack()
        self._log: IO[bytes] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def do(self) -> None:
        """Train; what came of it is in `result` and `made` then."""
        try:
            self.result = self._trained()
        except BuildError as error:
            self.result = {"refused": str(error)}
        except BaseException as error:  # noqa: BLE001 - told to the one that waits for it
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            self.result = {"fault": f"{type(error).__name__}: {said}", "trace": traceback.format_exc()}
        self.over.set()

    def news(self) -> Facts:
        """What was told since this was asked last."""
        with self._guard:
            found: Facts = {"events": self._events, "notes": self._notes, "log": "" if self._log is None else self._read(self._log)}
            self._events, self._notes = [], []
        return {name: value for name, value in found.items() if value}

    def left(self) -> bool:
        """Is there more of the log than the next news will have?"""
        return self._log is not None and os.fstat(self._log.fileno()).st_size - self._log.tell() > MOST_LOG

    def _read(self, log: IO[bytes]) -> str:
        return self._decoder.decode(log.read(MOST_LOG))  # what ends within a character goes on with the next

    def close(self) -> None:
        """Remove the training's folder."""
        self._left.close()

    def _trained(self) -> Facts:
        program = trainer(self.told["trainer"])
        install = _missing(self.told["trainer"], named(self.told["env"]))
        if install is not None:
            msg = f"trainer {self.told['trainer']!r} is not installed on the node"
            fix = f"{install}, there; or have Ray install it: `engine: {{runtime_env: {{pip: [...]}}}}`; or name its environment there by train.env"
            raise BuildError(msg, fix=fix)
        folder, lock = new_folder(self.told["name"])
        self._left.callback(shutil.rmtree, folder, ignore_errors=True)
        self._left.enter_context(lock)
        job = job_in(folder, self.told, self.files, self.base, gpus=self.gpus)
        log = self._left.enter_context((folder / "train.log").open("w", encoding="utf-8"))
        with self._guard:
            self._log = self._left.enter_context((folder / "train.log").open("rb"))
        with ExitStack() as kept:
            if self.told["checkpoints"] is not None:
                from ollamake.engines.checkpoints import Keeping, Kept  # with fsspec, and what it needs for the url

                place = Kept(self.told["checkpoints"], self.told["key"])
                job = self._from_checkpoint(job, place) or job
                keeping = kept.enter_context(Keeping(place, lambda: program.checkpoint(job.folder), self._say_of_store))
            else:
                keeping = None
            hearing = Hearing(program, log, lambda event: self._hear(event, keeping))
            code = self._run(program, job, hearing, log, lock.fileno())
            if keeping is not None and code == 0 and hearing.failure is None:
                keeping.give_up()
        failure = None if hearing.failure is None else facts_of(hearing.failure)
        result: Facts = {"ended": {"code": code, "steps": hearing.steps, "failure": failure}}
        if code == 0 and failure is None:
            try:
                found = program.collect(job.folder)
                names = self.told["results"]
                self.made = [found / name for name in names if (found / name).exists()] if found.is_dir() else [found]
            except BuildError as error:
                result["lacks"] = str(error).replace(f"{job.folder}/", "")
        return result

    def _hear(self, event: Event, keeping: Keeping | None) -> None:
        with self._guard:
            self._events.append(facts_of(event))
        if keeping is not None:
            keeping.hear(event)

    def _note(self, text: str) -> None:
        with self._guard:
            self._notes.append(text)

    def _say_of_store(self, text: str) -> None:
        """What is wrong with where checkpoints are kept; once."""
        if not self._store_fails:
            self._store_fails = True
            self._note(text)

    def _from_checkpoint(self, job: Job, place: Kept) -> Job | None:
        try:
            checkpoint = place.fetch(job.work)
        except BuildError as error:
            what, _, fix = str(error).partition("\n")
            self._say_of_store(f"{what}; the training begins anew" + (f"\n{fix}" if fix else ""))
            return None
        if checkpoint is None:
            return None
        self._note(f"goes on from {checkpoint.name} of a training that was lost")
        return written({**self.told["facts"]}, job, checkpoint)

    def _run(self, program: Trainer, job: Job, hearing: Hearing, log: IO[str], lock: int) -> int:
        """Run its program until it ends; with this worker, at the latest. Returns its exit code."""
        command = program.plan(job)
        write_files(command, job.folder)
        check_program_file(command, ON_NODES)
        process = begun(
            command.argv,
            cwd=job.folder if command.in_job else None,
            env={**environment(self.told["threads"]), **modules(), **command.environment},
            log=log,
            inherited=(lock,),
        )
        try:
            return hearing.until_end(process, command, job.folder)
        finally:
            ended(process)


@cache
def _version() -> str:
    return version("ollamake")  # reads the package's file each time


@cache
def _missing(name: str, env: Any) -> str | None:
    return trainer(name).missing(Environment(env))
