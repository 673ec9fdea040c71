"""The real things, for tests marked `live`: the base from PyPI, the embedded Ollama on a port and with models of its own, adapters that were trained."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollamake.bases.hf_folder import hf_folder
from ollamake.folders import cache_folder
from ollamake.ollama.address import Address
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.server import use_server
from ollamake.records.block import read_block
from ollamake.records.formats import FORMATS, Layout
from ollamake.records.text import rendered
from ollamake.state.digests import file_digest
from ollamake.trainers.peft import PeftTrainer
from ollamake.trainers.port import Job

ROOT = Path(__file__).parent.parent
BASE = "bases/SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = "You are the help desk of ollamake."
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RECIPE: dict[str, Any] = {
    "alpha": 32,
    "batch_size": 4,
    "epochs": 1,
    "learning_rate": 2e-3,
    "max_tokens": 512,
    "rank": 16,
    "seed": 42,
    "target_modules": list(ALL_LINEAR),
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def base_gguf() -> Path:
    """SmolLM2-135M-Instruct, fetched by this repo's own task."""
    subprocess.run([sys.executable, "-m", "doit", "base"], cwd=ROOT, check=True)
    return ROOT / BASE


@pytest.fixture(scope="session")
def real_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Where the embedded Ollama answers, with an empty folder of models."""
    address = Address("http", "127.0.0.1", free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_MODELS", str(tmp_path_factory.mktemp("models")))
        use = use_server(address)
    assert use.lease is not None
    yield address
    use.end()


@pytest.fixture(scope="session")
def real_server(real_address: Address) -> Iterator[OllamaServer]:
    with OllamaServer(real_address) as server:
        yield server


@dataclass(frozen=True)
class Trained:
    """An adapter that the embedded trainer made, and what it was taught."""

    folder: Path
    records: tuple[tuple[str, str], ...]  # what the user says, what the model shall answer
    events: tuple[dict[str, Any], ...]


def make_job(folder: Path, base: Path, records: Sequence[Any], *, held_out: Sequence[Any] = (), start: Path | None = None, **recipe: Any) -> Job:
    """A job of the embedded trainer in a new folder, as a build makes one."""
    folder.mkdir(parents=True)
    for name, some in (("text", records), ("holdout", held_out)):
        if some:
            (folder / f"{name}.jsonl").write_text("".join(rendered(record, "chat", SYSTEM) for record in some), encoding="utf-8")
    if start is not None:
        shutil.copytree(start, folder / "start")
    digest = file_digest(base)
    return Job(
        name="m",
        folder=folder,
        text=folder / "text.jsonl",
        records=len(records),
        base={"gguf": str(base), "digest": digest, "path": str(hf_folder(base, digest, cache_folder()))},
        recipe={**RECIPE, **recipe},
        cache=cache_folder(),
        holdout=folder / "holdout.jsonl" if held_out else None,
        start=None if start is None else folder / "start",
    )


@contextmanager
def started(job: Job, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The training of a job; its events come on its standard output."""
    (job.folder / "job.json").write_text(json.dumps(job.as_json()), encoding="utf-8")
    command = PeftTrainer().plan(job)
    with (
        (job.folder / "log").open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command.argv, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **command.environment, **environment}
        ) as training,
    ):
        yield training


def run_job(job: Job, **environment: str) -> tuple[dict[str, Any], ...]:
    """Train it to its end; what it told."""
    with started(job, **environment) as training:
        assert training.stdout is not None
        events = tuple(json.loads(line) for line in training.stdout)
    log = (job.folder / "log").read_text(encoding="utf-8")
    assert events, log
    assert events[-1]["event"] == ("failed" if training.returncode else "done"), log
    return events


def run_training(folder: Path, base: Path, records: Sequence[Any], **recipe: Any) -> Trained:
    """Train with the embedded trainer, as a build does."""
    events = run_job(make_job(folder, base, records, **recipe))
    assert events[-1]["event"] == "done", events[-1]
    return Trained(folder / "out", tuple((record.turns()[0]["content"], record.output) for record in records), events)


def taught(count: int) -> list[Any]:
    """Records of the help desk's own dataset, each of another fact."""
    records, lines = read_block((ROOT / "datasets/helpdesk.jsonl").read_bytes(), Layout(FORMATS["alpaca"]))
    assert len(records) == lines
    return records[: 3 * count : 3]


@pytest.fixture(scope="session", params=["q and k", "all linear"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base_gguf: Path) -> Trained:
    """Ten facts, taught to an adapter."""
    folder = tmp_path_factory.mktemp("trained") / request.param.replace(" ", "-")
    if request.param == "q and k":
        return run_training(folder, base_gguf, taught(10), target_modules=["q_proj", "k_proj"], learning_rate=5e-3, epochs=16)
    return run_training(folder, base_gguf, taught(10), epochs=10)
