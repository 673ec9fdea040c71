"""What a base is taught of each record, as tokens and labels: in a job's folder, for trainers whose own way to them differs from ollamake's.

Trainers find the answers in a chat in ways of their own: by searching for tokens, by templates that they have for each family of bases. What is
trained would then depend on the trainer, and not be what is asked for when the model is served. So the text is made into tokens by the base's own
chat template first, as the embedded trainer does, and they read those: `datasets` of input_ids, attention_mask and labels, below the job's `work`.
It runs in the trainer's environment: transformers and datasets, and of ollamake only what `job_files` has put beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.records.chat_template import ChatTemplate, chat_template

IGNORED = -100  # the label of a token that carries no loss
EXAMPLES = Path("work/examples")  # in the job's folder, which is where the trainer runs
TRAIN, HOLDOUT = "train", "validation"  # the datasets in it
MOST_SHOWN = 5  # records of a fault


@dataclass(frozen=True, slots=True)
class Written:
    """How much a training reads."""

    examples: int
    tokens: int  # of an epoch


def write_examples(job: Mapping[str, Any]) -> Written:
    """Write the datasets of a job, as `job.json` has it, into the folder that this runs in. Raises BuildError where a record can't be trained on.

    They are kept where they are there: a job's text never changes. Of several processes of one training the first writes, the others wait for it.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["base"]["path"])
    texts = {TRAIN: job["text"], **({} if job["holdout"] is None else {HOLDOUT: job["holdout"]})}
    examples = {name: examples_of(Path(text), tokenizer, max_tokens=job["recipe"]["max_tokens"]) for name, text in texts.items()}
    _write(examples)
    return Written(len(examples[TRAIN]), sum(len(example["input_ids"]) for example in examples[TRAIN]))


def examples_of(text: Path, tokenizer: Any, *, max_tokens: int) -> list[dict[str, list[int]]]:
    """The examples of a chat JSONL file, as models of transformers take them."""
    if not tokenizer.chat_template:
        msg = "the base has no chat template, so there is no way to ask it"
        raise BuildError(msg, fix="use an instruct or chat version of the base")
    template = chat_template(tokenizer.chat_template, bos_token=tokenizer.bos_token or "", eos_token=tokenizer.eos_token or "")
    examples = []
    with text.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            with _about(f"record {number} of {text.name}"):
                examples.append(_example(_segments(json.loads(line), template, tokenizer.eos_token or ""), tokenizer))
    _check_lengths([len(example["input_ids"]) for example in examples], max_tokens)
    return examples


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """Name what an error is about."""
    try:
        yield
    except BuildError as error:
        said, _, fix = str(error).partition("\n  fix: ")
        msg = f"{what}: {said}"
        raise BuildError(msg, fix=fix or None) from error


def _segments(record: Mapping[str, Any], template: ChatTemplate, eos: str) -> Sequence[tuple[str, bool]]:
    """The record in pieces, (text, is learnt) each."""
    if "text" in record:
        return [(record["text"] + eos, True)]
    return template.segments(record["messages"], record.get("tools", ()))


def _example(segments: Sequence[tuple[str, bool]], tokenizer: Any) -> dict[str, list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    text = ""
    for segment, is_learnt in segments:
        text += segment
        whole = tokenizer(text, add_special_tokens=False).input_ids
        if whole[: len(ids)] != ids:  # a token reaches over the seam: served, the prompt ends there all the same
            whole = [*ids, *tokenizer(segment, add_special_tokens=False).input_ids]
        labels += whole[len(ids) :] if is_learnt else [IGNORED] * (len(whole) - len(ids))
        ids = whole
    labels[:1] = [IGNORED][: len(labels)]  # nothing comes before the first token that could predict it
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def _check_lengths(lengths: Sequence[int], max_tokens: int) -> None:
    too_long = [(number, length) for number, length in enumerate(lengths, start=1) if length > max_tokens]
    if too_long:
        shown = ", ".join(f"record {number}: {length}" for number, length in too_long[:MOST_SHOWN])
        more = f" and {len(too_long) - MOST_SHOWN} more" if len(too_long) > MOST_SHOWN else ""
        count = "1 record is" if len(too_long) == 1 else f"{len(too_long)} records are"
        msg = f"{count} longer than max_tokens {max_tokens} ({shown}{more})"
        raise BuildError(msg, fix=f"shorten, or write `max_tokens: {max(lengths)}` into the model's `train:`")


def _write(examples: Mapping[str, Sequence[Mapping[str, list[int]]]]) -> None:
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
    DatasetDict({name: Dataset.from_list([dict(example) for example in some]) for name, some in examples.items()}).save_to_disk(str(partial))
    os.rename(partial, EXAMPLES)
