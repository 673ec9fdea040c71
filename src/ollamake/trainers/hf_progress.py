"""Tells what transformers' Trainer does, as events: `ollamake_progress.py` in a job's folder, for trainers that are built on it.

A file of its own, that imports transformers alone: it runs in the trainer's environment, where ollamake is not installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from transformers import TrainerCallback

# Libraries print as they like, and redirect what is printed: events go to what standard output was at the start.
_EVENTS = os.fdopen(os.dup(1), "w", encoding="utf-8")
IS_FIRST = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes of this training, one for each GPU: it speaks for all
GRACE = 5.0  # seconds in which the first one says why all of them fail, and has the others ended


def tell(event: str, **facts: Any) -> None:
    """Write one event, as trainers.port.Event has it: once for all processes of the training, though any may fail alone."""
    if not IS_FIRST:
        if event != "failed":
            return
        time.sleep(GRACE)
    _EVENTS.write(json.dumps({"event": event, **facts}) + "\n")
    _EVENTS.flush()


def fail(reason: str, *, fix: str = "", key: str = "") -> None:
    """End the training for a reason that the user can mend; `key` is what in the catalog's `train` it is about."""
    tell("failed", reason=reason, fix=fix, key=key)
    sys.exit(1)


class Telling(TrainerCallback):  # type: ignore[misc]  # transformers is not there where types are checked
    """Tells the start, each step that is logged, and each checkpoint. Its methods are transformers' hooks."""

    def __init__(self, *, examples: int = 0, tokens: int = 0) -> None:
        self.examples, self.tokens = examples, tokens
        self.begun = 0.0
        self.first = 0  # step that this process began behind

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - transformers' signature
        """Say how many steps there are, and whether some are done."""
        self.begun, self.first = time.monotonic(), state.global_step
        if not state.is_world_process_zero:
            return
        tell("start", steps=state.max_steps, examples=self.examples, tokens=self.tokens)
        if self.first:
            tell("resumed", step=self.first, steps=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002 - transformers' signature
        """Tell the loss of a step, or of the holdout."""
        if not state.is_world_process_zero or not logs:
            return
        if "eval_loss" in logs:
            tell("evaluation", step=state.global_step, steps=state.max_steps, epoch=state.epoch, loss=float(logs["eval_loss"]))
        elif "loss" in logs:
            seconds = time.monotonic() - self.begun
            done = state.global_step - self.first
            left = seconds / done * (state.max_steps - state.global_step) if done else None
            read = self.tokens * done / state.max_steps / seconds if self.tokens and seconds and state.max_steps else None
            tell(
                "step",
                step=state.global_step,
                steps=state.max_steps,
                epoch=state.epoch,
                loss=float(logs["loss"]),
                learning_rate=logs.get("learning_rate"),
                tokens_per_second=read,
                seconds_left=left,
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - transformers' signature
        """Tell that a checkpoint is whole."""
        if state.is_world_process_zero:
            tell("checkpoint", step=state.global_step, steps=state.max_steps)
