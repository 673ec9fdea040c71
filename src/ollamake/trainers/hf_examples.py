"""A job's text as tokens and labels, for trainers whose own way to them differs from ollamake's. Carried into jobs, and run in their environment.

Trainers find the answers of a chat in ways of their own: by searching for tokens, by forms that they know of each family of bases. What is trained
would depend on the trainer then, and not be what is asked for when the model is served. So the base's own chat template makes the tokens first, as for
the embedded trainer, and they read datasets of input_ids, attention_mask and labels: `datasets` on disk, in the job's `work`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.trainers.examples import Example, read_examples
from ollamake.trainers.hf_progress import fail

EXAMPLES = Path("work/examples")  # in the job's folder, which is where the trainer runs
TRAIN, HOLDOUT = "train", "validation"  # the datasets in it


@dataclass(frozen=True, slots=True)
class Written:
    """How much a training reads."""

    examples: int
    tokens: int  # of all epochs


def write_examples(job: Mapping[str, Any]) -> Written:
    """Write the datasets of a job, as job.json has it, into the folder that this runs in. Ends the training where a record can't be trained on.

    They are kept where they are there: a job's text never changes. Of several processes of one training the first writes, the others wait for it.
    """
    from transformers import AutoTokenizer

    recipe = job["recipe"]
    tokenizer = AutoTokenizer.from_pretrained(job["base"]["path"])
    texts = {TRAIN: job["text"], **({} if job["holdout"] is None else {HOLDOUT: job["holdout"]})}
    try:
        examples = {name: read_examples(Path(text), tokenizer, max_tokens=recipe["max_tokens"]) for name, text in texts.items()}
    except BuildError as error:
        reason, _, fix = str(error).partition("\n  fix: ")
        fail(reason, fix=fix, key="max_tokens" if "max_tokens" in reason else "")
    _write(examples)
    return Written(len(examples[TRAIN]), sum(len(example.ids) for example in examples[TRAIN]) * recipe["epochs"])


def _write(examples: Mapping[str, Sequence[Example]]) -> None:
    """Write the datasets, whole or not at all, where they are not there yet."""
    if int(os.environ.get("LOCAL_RANK", "0")):
        while not EXAMPLES.is_dir():
            time.sleep(0.1)
        return
    if EXAMPLES.is_dir():
        return
    from datasets import Dataset, DatasetDict

    partial = EXAMPLES.with_name(f".{EXAMPLES.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    DatasetDict({name: Dataset.from_list([_row(example) for example in some]) for name, some in examples.items()}).save_to_disk(str(partial))
    os.rename(partial, EXAMPLES)


def _row(example: Example) -> dict[str, list[int]]:
    return {"input_ids": list(example.ids), "attention_mask": [1] * len(example.ids), "labels": example.labels}
