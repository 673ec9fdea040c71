"""The embedded trainer, as the program that trains: `python -m ollamake.trainers.peft_training JOB_FOLDER`.

Reads `job.json`, writes a PEFT adapter into the job's `out/`, and tells its progress as JSON objects, one a line, on standard output
(`trainers.port.Event`); all other chatter goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from ollamake.errors import BuildError
from ollamake.trainers import peft_attention
from ollamake.trainers.examples import read_examples
from ollamake.trainers.peft_base import load_base
from ollamake.trainers.peft_folder import begin_with, save_adapter
from ollamake.trainers.peft_lora import Weights, add_lora
from ollamake.trainers.peft_options import Options, options_of
from ollamake.trainers.peft_refusal import RefusedError, as_event
from ollamake.trainers.peft_run import Tell, Training


def main(folder: Path, events: TextIO) -> int:
    """Train the job in this folder; what the user can mend is told as the event "failed". The exit code."""

    def tell(event: str, **facts: Any) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")
        events.flush()

    try:
        _do_job(folder, tell)
    except BuildError as error:
        tell("failed", **as_event(error))
        return 1
    return 0


def _do_job(folder: Path, tell: Tell) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    recipe, options = job["recipe"], options_of(job["recipe"])
    tell("loading")
    training = prepared(folder, job, tell)
    resumed = job.get("checkpoint") is not None and training.resume(folder / job["checkpoint"])
    device = training.model.device.type
    tell("start", steps=training.steps, examples=len(training.examples), tokens=training.tokens, device=device)
    if resumed:
        tell("resumed", step=training.at.step, steps=training.steps)
    elif job.get("checkpoint") is not None:
        tell("note", reason="the checkpoint is of another training: it begins anew")
    training.run(folder / job["work"])
    save_adapter(training.weights, folder / job["out"], recipe=recipe, base=job["base"], dropout=options.lora_dropout)
    tell("done", step=training.at.step, steps=training.steps)


def prepared(folder: Path, job: Mapping[str, Any], tell: Tell) -> Training:
    """The training of this job, before its first step."""
    recipe, options = job["recipe"], options_of(job["recipe"])
    if job.get("holdout") is None and (recipe.get("keep") == "best" or recipe.get("patience")):
        key = "keep" if recipe.get("keep") == "best" else "patience"
        msg = f"`{key}` goes by the holdout's loss, and no record is held out"
        raise RefusedError(msg, fix="give a dataset a `holdout:`", key=key)
    device, dtype = _device(job.get("gpus", 0))
    _be_repeatable(recipe["seed"])
    model, tokenizer = load_base(job["base"], dtype=dtype)
    examples = read_examples(folder / job["text"], tokenizer, max_tokens=recipe["max_tokens"])
    holdout = read_examples(folder / job["holdout"], tokenizer, max_tokens=recipe["max_tokens"]) if job.get("holdout") else []
    layers = add_lora(model, targets=recipe["target_modules"], rank=recipe["rank"], alpha=recipe["alpha"], dropout=options.lora_dropout)
    model.to(device)
    weights = Weights(layers, device)
    if job.get("start") is not None:
        begin_with(weights, folder / job["start"], rank=recipe["rank"])
    _set_up(model, options, device)
    return Training(model, weights, examples, holdout, recipe=recipe, options=options, tell=tell)


def _set_up(model: Any, options: Options, device: torch.device) -> None:
    model.set_attn_implementation(peft_attention.NAME)
    spares_memory = options.gradient_checkpointing
    if device.type == "cuda" if spares_memory is None else spares_memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of its newer name, which transformers 5.0 doesn't know
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()


def _device(gpus: int) -> tuple[torch.device, torch.dtype]:
    if gpus and torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.device("cpu"), torch.float32


def _be_repeatable(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # memory is written before it is read: filling it costs time for nothing
    torch.use_deterministic_algorithms(True, warn_only=True)  # noqa: FBT003 - torch's signature


def _run(folder: Path) -> int:
    # Libraries print as they like: the events get a descriptor of their own, and file descriptor 1 becomes standard error.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return main(folder, events)


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1])))
