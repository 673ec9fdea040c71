"""Trainings that had ended when they were killed. Carried into jobs, and run in the trainer's environment."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.trainers.adapter_folder import CONFIG, WEIGHTS
from ollamake.trainers.hf_progress import tell

WORK = Path("work")  # in the job's folder, which is where the trainer runs


def end_if_ended(job: Mapping[str, Any]) -> None:
    """Where the checkpoint is of a training that its last step or its held out records had ended, leave its adapter as the result, and exit.

    transformers' Trainer would go on behind the latter, and read the holdout again and again behind the former.
    """
    if job["checkpoint"] is None:
        return
    checkpoint = Path(job["checkpoint"])
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    if not state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {}).get("should_training_stop"):
        return
    best = state.get("best_model_checkpoint") if job["recipe"].get("keep") == "best" and job["holdout"] is not None else None
    kept = checkpoint if best is None else WORK / Path(best).name  # it is named by where the job was
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(kept / name, WORK / name)
    tell("resumed", step=state["global_step"], steps=state["max_steps"])
    tell("done", step=state["global_step"], steps=state["max_steps"])
    sys.exit(0)
