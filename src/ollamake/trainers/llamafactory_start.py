"""LLaMA-Factory's side of a job: `ollamake_llamafactory.py` in the job's folder, which becomes `llamafactory-cli train`.

Before that, it checks the catalog's `options` against the arguments of the LLaMA-Factory that is installed, and makes the text into tokens.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from llamafactory.hparams import DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments, TrainingArguments, get_train_args

from ollamake.trainers.hf_ended import end_if_ended
from ollamake.trainers.hf_examples import write_examples
from ollamake.trainers.hf_gpus import check_gpus
from ollamake.trainers.hf_progress import fail, tell
from ollamake.trainers.native_options import check_options, fields_of, key_of

CONFIG = "llamafactory.yaml"
ARGUMENTS = (ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments)


def main() -> None:
    """Check, write what is read, and become LLaMA-Factory."""
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    tell("loading")
    check_gpus(job)
    _check(yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8")), job["recipe"].get("options", {}))
    end_if_ended(job)
    written = write_examples(job)
    steps = -(-job["records"] // job["recipe"]["batch_size"]) * job["recipe"]["epochs"]
    tell("start", steps=steps, examples=written.examples, tokens=written.tokens)
    if job["checkpoint"] is None:
        for torn in Path("work").glob("checkpoint-*"):  # LLaMA-Factory would go on from it
            shutil.rmtree(torn)
    else:
        tell("resumed", step=int(job["checkpoint"].rsplit("-", 1)[1]), steps=steps)
    _become()


def _check(config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    known = {name: native for arguments in ARGUMENTS for name, native in fields_of(arguments).items()}
    check_options(options, known, who="LLaMA-Factory")
    if "FORCE_TORCHRUN" in os.environ:
        return  # each of its processes checks the rest, which this one has not the place of
    try:
        get_train_args(dict(config))
    except (ValueError, AssertionError, ImportError) as error:
        key = key_of(error, options)
        fail(f"LLaMA-Factory refuses the config: {error}", fix=f"mend train.{key}", key=key)


def _become() -> None:
    """Be LLaMA-Factory's own command from here on; it looks for torchrun on the path."""
    os.environ["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)))
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "llamafactory.cli", "train", CONFIG])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
