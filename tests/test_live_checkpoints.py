"""A machine is lost in the middle of a real training, and another one goes on with it: by what was sent there, and by what an object store has kept."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from live_fixtures import make_job, run_job, started, taught
from ollamake.digest import digest_value
from ollamake.engines.checkpoints import Keeping, Kept
from ollamake.engines.node_files import chunks, received, wanted
from ollamake.trainers.peft import PeftTrainer
from ollamake.trainers.port import Job, json_event

pytestmark = pytest.mark.live
ONE_CORE = {"OMP_NUM_THREADS": "1"}  # of a machine that has other things to do


class LostError(Exception):
    """What ends a training, and its machine."""


def elsewhere(job: Job, node: Path) -> Job:
    """The job on another machine: its folder, and what of its base is sent there."""
    what = wanted(Path(job.base["path"]))
    base = received(node / "cache", what, chunks(Path(job.base["path"]), what))
    folder = node / "job"
    shutil.copytree(job.folder, folder, ignore=shutil.ignore_patterns("work", "out", "log"))
    there = {"folder": folder, "text": folder / job.text.name, "holdout": folder / "holdout.jsonl"}
    return replace(job, **there, base={**job.base, "path": str(base)}, cache=node / "cache")


def test_a_training_whose_machine_is_lost_goes_on_elsewhere_to_the_same_bytes(base_gguf: Path, s3: str, tmp_path: Path) -> None:
    records = taught(5)
    recipe = {"epochs": 2, "batch_size": 1, "options": {"lora_dropout": 0.1}, "target_modules": ["q_proj"], "rank": 2, "held_out": records[4:]}
    whole = make_job(tmp_path / "whole", base_gguf, records[:4], **recipe)
    run_job(whole, **ONE_CORE)
    key, program, said = digest_value("this job"), PeftTrainer(), []
    job = elsewhere(whole, tmp_path / "node-1")
    kept = Kept(s3, key)
    assert kept.fetch(job.work) is None
    keeping = Keeping(kept, lambda: program.checkpoint(job.folder), said.append)
    with suppress(LostError), keeping, started(job, OLLAMAKE_CHECKPOINT_SECONDS="0", **ONE_CORE) as training:
        assert training.stdout is not None
        for line in training.stdout:
            event = json_event(line)
            assert event is not None
            keeping.hear(event)
            if event.kind == "checkpoint" and event.step == 4:
                training.kill()
                raise LostError
    assert said == []
    shutil.rmtree(tmp_path / "node-1")
    job = elsewhere(whole, tmp_path / "node-2")
    checkpoint = Kept(s3, key).fetch(job.work)
    assert checkpoint is not None
    behind = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 1 <= behind < 8
    assert program.checkpoint(job.folder) == checkpoint
    events = run_job(replace(job, checkpoint=checkpoint), **ONE_CORE)
    assert [event["step"] for event in events if event["event"] == "resumed"] == [behind]
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(behind + 1, 9))
    assert json.loads((job.folder / "job.json").read_text(encoding="utf-8"))["checkpoint"] == f"work/checkpoint-{behind}"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (job.out / name).read_bytes() == (whole.out / name).read_bytes()
    Kept(s3, key).clear()
    assert Kept(s3, key).fetch(tmp_path / "node-3") is None
