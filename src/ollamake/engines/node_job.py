"""The folder of a job on a node of a cluster: made of what was sent, by this node's paths."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from ollamake.bases.float_gguf import float_gguf
from ollamake.bases.hf_folder import hf_folder
from ollamake.digest import digest_bytes
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.locks import try_lock
from ollamake.trainers.environment import Named
from ollamake.trainers.port import FLOAT_GGUF, HF, Job


def new_folder(name: str) -> tuple[Path, IO[str]]:
    """A folder for a training, and its lock, which its program inherits. Folders of trainings that are gone are removed."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir(), f"ollamake-{user}")
    place.mkdir(exist_ok=True, mode=0o700)
    if place.lstat().st_uid != user:  # who owns it could put other texts and programs there
        msg = f"{place} is another user's"
        raise BuildError(msg, fix="remove it, or set TMPDIR on the node to a folder of your own")
    (place / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in place.glob("*/job-*/lock"):
        with contextlib.suppress(OSError), left.open("r+", encoding="utf-8") as lock:
            if try_lock(lock):
                shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=place / name, prefix="job-"))
    file = (folder / ".lock").open("a+", encoding="utf-8")
    try_lock(file)
    os.rename(folder / ".lock", folder / "lock")  # locked when others see it
    return folder, file


def job_in(folder: Path, told: Mapping[str, Any], files: Sequence[tuple[str, str, bytes]], base: Path | None, *, gpus: int) -> Job:
    """The job, in a folder of this node; its files are those that were sent."""
    facts = told["facts"]
    for name, digest, content in files:
        if digest_bytes(content) != digest:
            msg = f"{name} of the job has come damaged"
            raise BuildError(msg, fix="run `doit` again")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def inside(name: str) -> Path | None:
        return None if facts[name] is None else folder / facts[name]

    job = Job(
        name=facts["name"],
        folder=folder,
        text=folder / facts["text"],
        records=facts["records"],
        base=_base(folder, told, base),
        recipe=facts["recipe"],
        cache=cache_folder(),
        env=named(told["env"]),
        gpus=gpus,
        holdout=inside("holdout"),
        start=inside("start"),
    )
    for place in (job.out, job.work):
        place.mkdir(exist_ok=True)
    return written(facts, job, inside("checkpoint"))


def _base(folder: Path, asked: Mapping[str, Any], base: Path | None) -> dict[str, Any]:
    """What the job says of its base, by this node's paths."""
    told = dict(asked["facts"]["base"])
    if asked["base"] is None:  # a name at a hub: the trainer fetches it
        return {**told, "path": told["hf"]}
    assert base is not None
    if "hf" in told and asked["form"] == HF:
        return {**told, "hf": str(base), "path": str(base)}
    gguf = folder / "base" / Path(told["gguf"]).name  # by its own name: adapters tell it
    gguf.parent.mkdir()
    gguf.symlink_to(base)
    told["gguf"] = str(gguf)
    if asked["form"] == HF:
        return {**told, "path": str(hf_folder(gguf, told["digest"], cache_folder()))}
    if asked["form"] == FLOAT_GGUF:
        return {**told, "path": str(float_gguf(gguf, told["digest"], cache_folder()))}
    return {**told, "path": str(gguf)}


def written(facts: Mapping[str, Any], job: Job, checkpoint: Path | None) -> Job:
    """The job, which goes on from this checkpoint; it is said in its folder."""
    job = replace(job, checkpoint=checkpoint)
    (job.folder / "job.json").write_text(json.dumps({**facts, **job.as_json()}, indent=2) + "\n", encoding="utf-8")
    return job


def environment(threads: str | None) -> dict[str, str]:
    """The worker's own, but for the number of threads that Ray has set by the number of cores: sums in another order would be other adapters than here."""
    found = dict(os.environ)
    if threads is not None and found.get("OMP_NUM_THREADS") == threads:
        del found["OMP_NUM_THREADS"]
    return found


def named(env: Any) -> Named:
    """As a job has it."""
    return tuple(env) if isinstance(env, list) else env
