"""Steps -> doit tasks; a faulty catalog -> doit's own error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile
from doit.task import clean_targets

from ollamake.catalog import load_catalog
from ollamake.errors import BuildError
from ollamake.graph import Step, steps_of
from ollamake.ollama.address import address_of
from ollamake.run import Run
from ollamake.trainers.port import trainer, trainer_names

PURPOSES = {
    "validate": "check every record of {}",
    "convert": "write the text that {} is trained on",
    "train": "train the adapter of {}",
    "package": "write the weights that {} is served from",
    "register": "make {} in Ollama, and have it answer",
}

DoitTask = dict[str, Any]


def tasks_from(path: str = "models.yaml") -> Iterator[DoitTask]:
    """The doit tasks of every step of a catalog; for a task creator of dodo.py. Raises doit's InvalidDodoFile."""
    try:
        catalog = load_catalog(Path(path), trainers=trainer_names())
        run = Run(address_of(catalog.host))
        used = {model.train.trainer for model in catalog.models}
        steps = steps_of(catalog, {name: trainer(name).text_format for name in used})
    except BuildError as error:
        msg = f"\n{error}"  # on a line of its own: doit writes `ERROR: ` before it
        raise InvalidDodoFile(msg) from error
    for warning in catalog.warnings:
        print(warning, file=sys.stderr)
    for stage in dict.fromkeys(step.stage for step in steps):
        each = "each dataset" if stage == "validate" else "each model"
        yield {"basename": stage, "name": None, "doc": PURPOSES[stage].format(each)}
    for step in steps:
        yield task_of(step, run)


def task_of(step: Step, run: Run) -> DoitTask:
    """The doit task of a step.

    File dependencies give doit the order. Whether a step is fresh, `run` says by its receipt; where doit has forgotten a step, or knows a change of its own, it runs too.
    """
    task: DoitTask = {
        "basename": step.stage,
        "name": step.name,
        "doc": PURPOSES[step.stage].format(step.name),
        "file_dep": list(step.reads),
        "targets": list(step.writes),
        "actions": [(run.do, [step])],
        "uptodate": [(run.is_fresh, [step])],
        "verbosity": 2,
        "meta": {"ollamake": step},
    }
    if step.stage in {"convert", "package"}:
        task["clean"] = [(shutil.rmtree, [str(Path(step.writes[0]).parent)], {"ignore_errors": True})]
    if step.stage == "validate":
        task["clean"] = [clean_targets]
    if step.stage == "register":
        task["teardown"] = [(run.end_server,)]  # doit does it when all steps are done
    return task
