"""What trainers that are built on transformers' Trainer make of a job: batches, steps, environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.trainers.hf_variables import hf_variables
from ollamake.trainers.port import Job, Objection

EXAMPLES = "work/examples"  # as `hf_examples` writes them: "train" and, where there is a holdout, "validation"
WARMUP_SHARE = 0.05  # of all steps: the learning rate rises to its value, then falls to nothing in a straight line, as the embedded trainer's does
CHECKPOINTS = 10  # that are written in the course of a training


def batches(job: Job, accumulation: str) -> tuple[int, int, int]:
    """Processes, records of each at a time, and how often they are added up before a step: their product is the recipe's batch_size.

    One process for each GPU. `accumulation` is the option by which the catalog says how often. Raises BuildError where the batch can't be dealt out so.
    """
    for objection in shared_batch(job.recipe, job.gpus, accumulation):
        raise BuildError(objection.text, fix=objection.fix)
    processes, times = max(1, job.gpus), int(job.recipe.get("options", {}).get(accumulation, 1))
    return processes, int(job.recipe["batch_size"]) // (processes * times), times


def shared_batch(recipe: Mapping[str, Any], gpus: int, accumulation: str) -> tuple[Objection, ...]:
    """A batch that can't be dealt out to so many GPUs; one that can't be dealt out to rounds is `batch_objections`' affair."""
    size, times = int(recipe["batch_size"]), recipe.get("options", {}).get(accumulation, 1)
    if gpus < 2 or batch_objections(recipe, accumulation) or size % (gpus * times) == 0:
        return ()
    fewer = next(count for count in range(gpus, 0, -1) if size % (count * times) == 0)
    text = f"batch_size {size} can't be dealt out to {gpus} GPUs" + (f" in {times} rounds" if times > 1 else "")
    return (Objection(key="resources.gpu", text=text, fix=f"write `resources: {{gpu: {fewer}}}`, or a batch_size that {gpus * times} divides"),)


def batch_objections(recipe: Mapping[str, Any], accumulation: str) -> tuple[Objection, ...]:
    """A batch that can't be dealt out to so many rounds."""
    times, size = recipe.get("options", {}).get(accumulation, 1), recipe["batch_size"]
    if isinstance(times, int) and not isinstance(times, bool) and times >= 1 and size % times == 0:
        return ()
    text = f"options.{accumulation}: {times!r} does not divide batch_size {size}, and a step reads batch_size records"
    return (Objection(key=f"options.{accumulation}", text=text, fix="write a number that divides train.batch_size"),)


def integer_alpha(recipe: Mapping[str, Any], trainer: str) -> tuple[Objection, ...]:
    """An alpha that is no whole number, for a trainer that takes no other."""
    alpha = recipe["alpha"]
    if alpha == int(alpha):
        return ()
    return (Objection(key="alpha", text=f"alpha: {alpha}: {trainer} takes whole numbers alone", fix=f"write {max(1, round(alpha))}"),)


def epoch_steps(job: Job) -> int:
    """The optimizer steps of an epoch."""
    return job.steps // int(job.recipe["epochs"])


def save_steps(job: Job) -> int:
    """How many steps there are from one checkpoint to the next."""
    return max(1, job.steps // CHECKPOINTS)


def environment_of(job: Job) -> dict[str, str]:
    """Nobody is told of the training; nothing is fetched for a base that is a folder; what `datasets` keeps is gone with the job."""
    no_gpu = {} if job.gpus else {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    return {
        **hf_variables(offline=Path(str(job.base["path"])).is_absolute()),
        "DO_NOT_TRACK": "1",
        "HF_DATASETS_CACHE": str(job.work / "datasets"),
        **no_gpu,
    }
