"""The folders of trainings: made for each, taken up again where a build was killed, gone when their adapter is in its place."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ollamake.catalog import Model
from ollamake.digest import digest_file
from ollamake.folders import cache_folder
from ollamake.graph import Step, adapter_files
from ollamake.locks import try_lock
from ollamake.say import say
from ollamake.state.files import read_object, write_whole
from ollamake.trainers.port import Job, Trainer

JOB = "job.json"
ORPHAN = 45.0  # seconds that the program of a build that was killed has to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job that is ours."""

    job: Job
    lock: int  # descriptor: who inherits it holds the job


def jobs_left(step: Step) -> list[Path]:
    """The folders of jobs of this training. Their builds are gone: this one has the repo's run lock."""
    return sorted(Path(step.reads[0]).parent.glob("job-*"))


def clear_jobs(step: Step) -> None:
    """Remove what builds have left that were killed while they trained this."""
    for left in jobs_left(step):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def held_job(
    step: Step,
    model: Model,
    program: Trainer,
    base: Mapping[str, Any],
    *,
    gpus: int,
    versions: Mapping[str, Any],
    start: Path | None,
    holdout: Path | None,
) -> Iterator[Held]:
    """The job of this training: the one that was left with a checkpoint of just this, else a new one; all others are removed."""
    before, text = jobs_left(step), Path(step.reads[0])
    # A name of its own for each: a program that outlived its build can't write into the next one's.
    made = Path(tempfile.mkdtemp(dir=text.parent, prefix="job-")).absolute()
    try:
        job = _job(made, text, model, base, gpus=gpus, start=start, holdout=holdout)
        facts = _facts(job, model.train.trainer, versions)
    except OSError:  # of a full disk
        shutil.rmtree(made, ignore_errors=True)
        raise
    found = [one for left in before if (one := _taken(left, program, facts)) is not None]
    taken, *others = found or (None,)
    for other in filter(None, others):
        other.lock.close()
    lock = _lock(made) if taken is None else taken.lock
    for left in (*before, made):
        if left != (made if taken is None else taken.folder):
            shutil.rmtree(left, ignore_errors=True)
    assert lock is not None  # nobody else knows a new folder
    with lock:
        if taken is not None:
            job = replace(_moved(job, taken.folder.absolute()), checkpoint=taken.checkpoint)
            say(f"   {model.name}: goes on from {taken.checkpoint.name} of a training that was ended")
        shutil.rmtree(job.out, ignore_errors=True)
        for place in (job.out, job.work):
            place.mkdir(exist_ok=True)
        write_whole(job.folder / JOB, json.dumps({**facts, "checkpoint": job.as_json()["checkpoint"]}, indent=2) + "\n")
        yield Held(job=job, lock=lock.fileno())


def _job(folder: Path, text: Path, model: Model, base: Mapping[str, Any], *, gpus: int, start: Path | None, holdout: Path | None) -> Job:
    """The job, its texts and the adapter that it starts from in this folder."""
    shutil.copyfile(text, folder / text.name)
    if holdout is not None:
        shutil.copyfile(holdout, folder / holdout.name)
    if start is not None:
        (folder / "start").mkdir()
        for path in adapter_files(str(start)):  # not all that lies there: it is read by programs that would load a pickle
            shutil.copyfile(path, folder / "start" / Path(path).name)
    with (folder / text.name).open("rb") as lines:
        records = sum(1 for _ in lines)
    return Job(
        name=model.name,
        folder=folder,
        text=folder / text.name,
        records=records,
        base=base,
        recipe=json.loads(json.dumps(model.train.recipe)),  # plain texts: writers of YAML know no others
        cache=cache_folder(),
        env=model.train.env,
        gpus=gpus,
        holdout=None if holdout is None else folder / holdout.name,
        start=None if start is None else folder / "start",
    )


def _moved(job: Job, folder: Path) -> Job:
    def there(path: Path | None) -> Path | None:
        return None if path is None else folder / path.relative_to(job.folder)

    return replace(job, folder=folder, text=folder / job.text.name, holdout=there(job.holdout), start=there(job.start))


def _facts(job: Job, name: str, versions: Mapping[str, Any]) -> dict[str, Any]:
    """What job.json says of a job: two with the same facts make the same adapter."""
    files = [job.text, *filter(None, [job.holdout]), *(sorted(job.start.iterdir()) if job.start else ())]
    digests = {path.relative_to(job.folder).as_posix(): digest_file(path) for path in files}
    told: dict[str, Any] = json.loads(json.dumps({**job.as_json(), "trainer": name, "versions": versions, "digests": digests}))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    folder: Path
    lock: IO[Any]
    checkpoint: Path


def _taken(folder: Path, program: Trainer, facts: Mapping[str, Any]) -> _Taken | None:
    """A job that was left, its lock, and the checkpoint that it goes on from; None where it is another, or has none.

    Returns when its program has ended, whichever job it is: two trainings of a model at once are one too many.
    """
    lock = _lock(folder)
    if lock is None:
        return None
    if {**read_object(folder / JOB), "checkpoint": None} != facts:
        lock.close()
        return None
    checkpoint = program.checkpoint(folder.absolute()) if program.capabilities.resumes else None
    if checkpoint is None or not _has_all(folder, facts["digests"]):
        lock.close()
        return None
    return _Taken(folder=folder, lock=lock, checkpoint=checkpoint)


def _has_all(folder: Path, digests: Mapping[str, str]) -> bool:
    """Are the files of this job as they were put there? A loss of power may have taken them."""
    try:
        return all(digest_file(folder / name) == digest for name, digest in digests.items())
    except OSError:
        return False


def _lock(folder: Path) -> IO[Any] | None:
    """The folder's lock, when the program that worked in it has ended; None where it does not."""
    file: IO[Any] = (folder / "lock").open("a+", encoding="utf-8")
    until = time.monotonic() + ORPHAN
    while not try_lock(file):
        if time.monotonic() > until:
            file.close()
            return None
        time.sleep(0.1)
    return file
