"""Trainings on a Ray cluster, as doit's process sees them: jobs are handed to a driver, a process of its own, and what it tells is heard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from ollamake.catalog.engine import wrong_with_address
from ollamake.catalog.places import RAY, Engine
from ollamake.digest import digest_value
from ollamake.engines.local import seconds_in
from ollamake.engines.node_files import wanted
from ollamake.engines.port import Ended
from ollamake.engines.ray_client import LOG, driver_of, unusable
from ollamake.errors import BuildError, EngineError, WithdrawnError
from ollamake.progress import TrainingProgress
from ollamake.say import say
from ollamake.trainers.port import ADAPTER, HF, Event, Job, Trainer

WAITS = "waiting for a node"
WORTH_TELLING = 1_000_000  # bytes of a base

Facts = dict[str, Any]


class OnRay:
    """Trains on a Ray cluster: each training is a task of its own, and as many run at once as the cluster has room for."""

    name = RAY
    is_here = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def place(self, name: str, gpus: int, cache: Path) -> Iterator[_There]:  # noqa: ARG002 - of a machine
        """Ray itself lets a training wait for its node."""
        yield _There(self.engine, gpus)


class _There:
    """What a training on a cluster takes of a node."""

    def __init__(self, engine: Engine, gpus: int) -> None:
        self.engine = engine
        said = engine.resources.get("GPU", gpus if gpus > 1 else 0) if gpus else 0
        amount = max(said, gpus) if said and gpus > 1 else said
        self.resources = {name: value for name, value in {**engine.resources, "GPU": amount}.items() if value or name == "CPU"}
        self.gpus = -int(-amount // 1)
        self._kept: tuple[str, str] | None = None  # url and key of its checkpoints

    def run(self, program: Trainer, job: Job, *, held: int, log: Path, events: Path) -> Ended:  # noqa: ARG002 - its program is on another machine
        """Have the job done on a node; what it makes is put into its folder here."""
        url = _everywhere(self.engine.checkpoints) if program.capabilities.resumes else None
        if url is not None:
            from ollamake.engines.checkpoints import check_url  # with fsspec, and what it needs for the url

            check_url(url)
        driver = driver_of(self.engine.address or _named() or "auto", _plain(self.engine.runtime_env))
        how = "a" if job.checkpoint is not None else "w"
        before = seconds_in(events) if job.checkpoint is not None else 0.0
        with log.open(how, encoding="utf-8") as said, events.open(how, encoding="utf-8") as told, TrainingProgress(job.name) as progress:
            progress.begins(WAITS, is_begun=False)
            heard = _Heard(job, said, told, progress)
            task = self._task(program, job, url)
            self._kept = None if url is None else (url, task["told"]["key"])
            answer = driver.asked(task, heard.hear)
            heard.hear(answer)
        return _ended(answer, job, heard, before)

    def forget(self) -> None:
        """Remove the checkpoints of the job."""
        if self._kept is not None:
            from ollamake.engines.checkpoints import Kept

            Kept(*self._kept).clear()

    def _task(self, program: Trainer, job: Job, checkpoints: str | None) -> Facts:
        """What the driver is asked."""
        facts: Facts = json.loads((job.folder / "job.json").read_text(encoding="utf-8"))
        reads, base = program.capabilities.reads_base, facts["base"]
        source = base.get("hf") if reads == HF else None
        path = Path(source or base["gguf"])
        needs = None if source is not None and not path.is_absolute() else wanted(path, base["digest"] if source is None else None)
        engine, cpus = self.engine, max(1, int(self.resources.get("CPU", 1)))
        paths = {"cache", "checkpoint", "base", "out", "work"}
        key = {**{name: value for name, value in facts.items() if name not in paths}, "base": base["digest"], "hf": base.get("hf")}
        left = [path for path in job.checkpoint.rglob("*") if path.is_file()] if job.checkpoint is not None else []
        files = {**facts["digests"], **{path.relative_to(job.folder).as_posix(): _digest(path) for path in left}}
        told = {
            "name": job.name,
            "trainer": facts["trainer"],
            "facts": facts,
            "env": job.env,
            "base": None if needs is None else needs.as_json(),
            "form": reads,
            "results": ["adapter_config.json", "adapter_model.safetensors"] if program.capabilities.makes == ADAPTER else [],
            "checkpoints": checkpoints,
            "key": digest_value(key),
            "threads": None if "OMP_NUM_THREADS" in engine.runtime_env.get("env_vars", {}) else str(cpus),
        }
        return {
            "do": "train",
            "told": told,
            "base": str(path),
            "files": [{"name": name, "digest": digest, "path": str(job.folder / name)} for name, digest in files.items()],
            "out": str(job.out),
            "resources": self.resources,
            "retries": engine.retries,
        }


def _digest(path: Path) -> str:
    from ollamake.digest import digest_file

    return digest_file(path)


def _named() -> str | None:
    """The cluster that the environment names. Raises EngineError where no training can be sent there; one that the catalog names was looked at there."""
    address = os.environ.get("RAY_ADDRESS")
    for text, fix in wrong_with_address(address or ""):
        msg = f"RAY_ADDRESS: {text}"
        raise EngineError(msg, fix=fix)
    return address


def _everywhere(url: str | None) -> str | None:
    return None if url is None else str(url) if "://" in url else os.path.abspath(url)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


class _Heard:
    """What is done with what a training tells."""

    def __init__(self, job: Job, log: IO[str], events: IO[str], progress: TrainingProgress) -> None:
        self.job, self.log, self.events, self.progress = job, log, events, progress
        self.where = ""  # address of its node
        self.step = 0

    def hear(self, told: Facts) -> None:
        """Take a report."""
        if "began" in told:
            self.where = told["began"]
            self.progress.begins(f"starting on {self.where}")
            if told["version"] != _version():
                say(f"   {self.job.name}: node {self.where} has ollamake {told['version']}, and this machine {_version()}")
        for facts in told.get("events", ()):
            self.events.write(json.dumps(facts) + "\n")
            event = event_of(facts)
            self.step = max(self.step, event.step)
            self.progress.show(event)
        self.events.flush()
        if told.keys() & {"log", "trace"}:
            self.log.write(told.get("log", "") + told.get("trace", ""))
            self.log.flush()
        for note in told.get("notes", ()):
            say(f"   {self.job.name}: {note}")
        if told.get("sends", 0) >= WORTH_TELLING:
            say(f"   {self.job.name}: the base is sent to the cluster, {told['sends'] / 1e6:.0f} MB")
        if "again" in told:
            where = f"node {self.where} was lost" if self.where else "its node was lost"
            behind = f" behind step {self.step}" if self.step else ""
            self.where, self.step = "", 0
            self.progress.begins(WAITS)
            say(f"   {self.job.name}: {where}{behind}; begun again ({told['try']} of {told['of']})")
            self.log.write(f"{told['again']}\n")


@cache
def _version() -> str:
    return version("ollamake")  # reads the package's file each time


def event_of(facts: Facts) -> Event:
    """The event of a line of events.jsonl."""
    return Event(kind=facts["event"], **{name: value for name, value in facts.items() if name not in {"event", "time"}})


def _ended(answer: Facts, job: Job, heard: _Heard, before: float) -> Ended:
    """What came of the training. Raises BuildError where it did not end by itself."""
    address = heard.where or answer.get("where")
    where = f"node {address}" if address else "its node"
    if "refused" in answer:
        msg = f"on {where}: {answer['refused']}"
        raise BuildError(msg)
    if "absent" in answer:
        msg = f"on {where}: there is no ollamake: {answer['absent']}"
        raise EngineError(msg, key="runtime_env", fix="install it on the nodes, or have Ray do so: `engine: {runtime_env: {pip: [ollamake]}}`")
    if "environment" in answer:
        raise unusable(answer["environment"])
    if "memory" in answer:
        msg = f"{where} was out of memory: {answer['memory']}"
        raise EngineError(msg, key="resources", fix="write a smaller batch_size, or `engine: {resources: {memory: BYTES}}`")
    if "lost" in answer:
        msg = f"{where} was lost, after {answer['tries']} retries: {answer['lost']}"
        raise EngineError(msg, fix="look after the cluster (`ray status`), then run `doit` again")
    if "fault" in answer or "failed" in answer:
        msg = f"on {where}: {answer.get('fault') or answer['failed']}"
        raise EngineError(msg, fix=f"read {LOG} and the training's log; then run `doit` again")
    if "withdrawn" in answer:
        msg = f"{job.name} was not begun"
        raise WithdrawnError(msg)
    ended, lacks = answer["ended"], answer.get("lacks")
    failure = None if ended["failure"] is None else event_of(ended["failure"])
    found = BuildError(lacks) if lacks is not None else job.out if len(answer["files"]) != 1 else job.out / answer["files"][0]
    return Ended(code=ended["code"], steps=ended["steps"], failure=failure, seconds_before=before, where=f"{RAY} {address}", found=found)
