"""The GPUs that a training finds where it runs, which is not always where its catalog was read. Carried into jobs, and run in the trainer's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ollamake.trainers.hf_progress import fail


def check_gpus(job: Mapping[str, Any]) -> None:
    """End the training where there are others than `job.json` says: a step would read more records than batch_size, or each process train on its own."""
    wanted, seen = job["gpus"], torch.accelerator.device_count()
    if wanted == 1 and seen > 1:
        fix = "have train.launch ask for one, or show it one: `launch: [env, CUDA_VISIBLE_DEVICES=0]`"
        fail(f"it has one GPU by train.resources, and {seen} are shown to it: it would take them all", fix=fix, key="launch")
    if wanted > 1 and seen < wanted:
        fix = f"have train.launch ask for {wanted}, or write `resources: {{gpu: {seen}}}`"
        fail(f"it has {wanted} GPUs by train.resources, and where it runs there are {seen}", fix=fix, key="resources.gpu")
