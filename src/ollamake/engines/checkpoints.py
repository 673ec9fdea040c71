"""Checkpoints of trainings that may lose their machine: kept at any url that fsspec knows, fetched where the training goes on.

Each is one object below the digest of its job, under a name of its own: two machines that train one job at once, as when one was taken for lost and comes
back, write beside each other, and the one that is farther on is the one to go on from.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType

from ollamake.cache.opening import StoreError, opened_kind
from ollamake.cache.store import Listed, Store
from ollamake.cache.verified import ChangedError, DamagedError, Read
from ollamake.durable import sync_folder
from ollamake.engines.checkpoint_object import head_of, read_files, read_head, written
from ollamake.errors import BuildError, EngineError
from ollamake.trainers.hf_checkpoints import stands_alone
from ollamake.trainers.port import Event

TIMEOUT, STALL = 20.0, 120.0  # seconds: that a store has to answer, and that a transfer may stand still
MOST_KEPT = 2  # checkpoints of a job: should the last one be damaged, there is the one before
TRIES = 3  # to keep a checkpoint that the trainer replaces meanwhile
LAST_WORDS, FAREWELL = 15.0, 2.0  # seconds that a checkpoint has to get away when its training has failed; that its thread has to end when it has not
FOLDER = "kept"  # below the digest of the job; what is on its way lies beside it
_OBJECT = re.compile(rf"{FOLDER}/(\d+)\.[0-9a-f]{{32}}")
_STEP = re.compile(r"-(\d+)\Z")


def check_url(url: str) -> None:
    """Raise EngineError where nothing on this machine knows the url's kind, or no other machine would find there what one has kept. Asks no network."""
    if url.startswith("memory://"):
        msg = f"engine.checkpoints: {url} is the memory of one process: nothing that is lost is found there"
        raise EngineError(msg, fix="write a folder that all nodes share, or s3://, gs://, az:// or sftp://", key="checkpoints")
    try:
        opened_kind(url)
    except StoreError as error:
        msg = f"engine.checkpoints: {url} {error.what}: {error.why}"
        raise EngineError(msg, fix=_fix(error), key="checkpoints") from error


class Kept:
    """The checkpoints of one job."""

    def __init__(self, url: str, key: str, *, timeout: float = TIMEOUT, stall: float = STALL) -> None:
        """`url` is that of all jobs, `key` the digest of this one. A folder's url is its path."""
        self.url, self.key = url.removeprefix("file://").rstrip("/"), key
        self._store = Store(f"{self.url}/{key.removeprefix('sha256:')}", timeout, stall)

    def fetch(self, work: Path) -> Path | None:
        """The checkpoint that is farthest on, verified, in a folder of `work` that has its own name; None where there is none. What is damaged is removed.

        Raises BuildError where the store does not answer.
        """
        with self._told("can't be fetched"):
            self._make_place()
            for object_ in reversed(self._listed()):
                try:
                    found = self._store.read(object_.path, lambda read, _: self._unpacked(read, work))
                except DamagedError:
                    self._store.remove(object_.path)
                    continue
                if found is not None:  # else its writer has put a newer one there meanwhile
                    return found
        return None

    def keep(self, folder: Path, step: int, *, is_whole: Callable[[], bool] = lambda: True, goes_on: Callable[[], bool] = lambda: True) -> bool:
        """Keep the checkpoint in this folder; of those before it one stays. False where the trainer has removed it meanwhile, and nothing is kept.

        `is_whole` is asked when its files are held, whatever becomes of the folder then; `goes_on` with each piece. Raises BuildError where the store fails.
        """
        with self._told("can't be kept"), suppress(ChangedError), _held(folder) as held:
            if not is_whole():
                return False
            if not stands_alone(held):
                msg = "checkpoints are not kept: with `keep: best` or `patience` those of this trainer lead to each other"
                raise BuildError(msg, fix="know that the training begins anew should its node be lost; the trainer `peft` has no such limit")
            head = head_of(held, job=self.key, name=folder.name, step=step)
            self._make_place()
            self._store.write(f"{FOLDER}/{step:012}.{uuid.uuid4().hex}", _while(goes_on, written(head, held)), head.size)
            for old in self._listed()[:-MOST_KEPT]:
                self._store.remove(old.path)
            return True
        return False

    def clear(self) -> None:
        """Remove them all: what they were for is done. What can't be removed stays."""
        with suppress(StoreError):
            self._store.clear()

    def _listed(self) -> list[Listed]:
        """What is there, the farthest on last."""
        found = [(int(match[1]), one.written or 0, one.path, one) for one in self._store.listed(FOLDER) if (match := _OBJECT.fullmatch(one.path))]
        return [one for *_, one in sorted(found, key=lambda facts: facts[:3])]

    def _unpacked(self, read: Read, work: Path) -> Path:
        head = read_head(read, self.key)
        work.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(dir=work, prefix=".fetched-"))
        try:
            read_files(read, head, coming)
            coming.chmod(0o755)
            place = work / head.name
            shutil.rmtree(place, ignore_errors=True)
            os.rename(coming, place)
            sync_folder(work)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        return place

    def _make_place(self) -> None:
        """A folder that is named first of all by the catalog is made, where the one that it shall lie in is there."""
        if "://" not in self.url and os.path.isdir(os.path.dirname(self.url)):
            os.makedirs(self.url, exist_ok=True)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            msg = f"checkpoints {what}: {self.url} {error.what}: {error.why}"
            raise BuildError(msg, fix=_fix(error)) from error
        except OSError as error:
            msg = f"checkpoints {what}: {error.filename or self.url}: {error.strerror or error}"
            raise BuildError(msg) from error


class Keeping:
    """Keeps the checkpoints of a training while it runs, in a thread: the training waits for none, and fails for none."""

    def __init__(self, kept: Kept, newest: Callable[[], Path | None], say: Callable[[str], None]) -> None:
        """`newest`: the trainer's last whole checkpoint. `say` is told what is wrong, the first time that one can't be kept."""
        self._kept, self._newest, self._say = kept, newest, say
        self._changed = threading.Condition()
        self._step: int | None = None  # of a checkpoint that was told of, and is not looked at yet
        self._is_ended = self._is_given_up = False
        self._thread = threading.Thread(target=self._keep_all, daemon=True)

    def __enter__(self) -> Keeping:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._is_ended = True
            self._changed.notify()
        self._thread.join(FAREWELL if self._is_given_up else LAST_WORDS)
        self._is_given_up = True

    def give_up(self) -> None:
        """The training has ended well: nobody will go on from what is not sent yet."""
        self._is_given_up = True

    def hear(self, event: Event) -> None:
        """What the training tells; of several checkpoints that come while one is sent, the last is kept."""
        if event.kind == "checkpoint":
            with self._changed:
                self._step = event.step
                self._changed.notify()

    def _keep_all(self) -> None:
        kept: Path | None = None
        is_said = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._step is not None or self._is_ended)
                step, self._step = self._step, None
            if step is None or self._is_given_up:
                return
            try:
                kept = self._keep(step, kept)
            except Exception as error:  # noqa: BLE001 - a store fails in ways of its own, and none of them may end a training
                if not is_said and not self._is_given_up:
                    is_said = True
                    self._say(f"{error if isinstance(error, BuildError) else f'checkpoints can not be kept: {error!r}'}")

    def _keep(self, step: int, before: Path | None) -> Path | None:
        """Keep the newest one, if it is not that of before. Returns the one that is kept."""
        for _ in range(TRIES):
            folder = self._found()
            if folder is None:
                continue
            if folder == before:
                return before
            told = _STEP.search(folder.name)
            at = max(step, int(told[1]) if told else 0)
            if self._kept.keep(folder, at, is_whole=partial(self._is_newest, folder), goes_on=lambda: not self._is_given_up):
                return folder
        return before

    def _is_newest(self, folder: Path) -> bool:
        """Is it still the newest one? Then nothing of it is removed yet."""
        return self._found() == folder

    def _found(self) -> Path | None:
        with suppress(OSError):  # one is removed while it is looked at
            return self._newest()
        return None


@contextmanager
def _held(folder: Path) -> Iterator[Path]:
    """A folder with the same files, which stay when the trainer removes its own: it keeps the last one alone, and an upload may take longer. Raises ChangedError."""
    held = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".keeping-"))
    try:
        try:
            shutil.copytree(folder, held, copy_function=_link, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise ChangedError(str(error)) from error
        yield held
    finally:
        shutil.rmtree(held, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except FileNotFoundError:
        raise
    except OSError:  # a filesystem without links, or another one
        shutil.copyfile(source, target)


def _fix(error: StoreError) -> str | None:
    """What to do; the key of the catalog is another here."""
    return error.fix.replace("cache.url", "engine.checkpoints") if error.fix else None


def _while(goes_on: Callable[[], bool], pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces; asks with each of them, and in the end, whether to go on. Raises ChangedError where not."""
    for piece in chain(pieces, (b"",)):
        if not goes_on():
            msg = "given up"
            raise ChangedError(msg)
        yield piece
