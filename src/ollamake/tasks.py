"""Steps -> doit tasks; a faulty catalog -> doit's own error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidDodoFile, TaskFailed

from ollamake.call import current, groups
from ollamake.catalog import Model
from ollamake.catalog.places import LOCAL
from ollamake.errors import BuildError, as_printed, with_fix
from ollamake.graph import Step, index_path, rows_path
from ollamake.loading import loaded
from ollamake.run import Run
from ollamake.say import warn
from ollamake.state.files import remedy
from ollamake.state.receipts import receipt_path

PURPOSES = {
    "validate": "check every record of {}",
    "convert": "write the text that {} is trained on",
    "train": "train the adapter of {}",
    "fetch": "fetch the adapter of {} from the Hugging Face Hub",
    "package": "write the weights that {} is served from",
    "register": "make {} in Ollama as a candidate, and have it load",
    "test": "ask {} what its tests ask; if it answers well, it is the one that is used",
}

DoitTask = dict[str, Any]


def tasks_of(path: str) -> Iterator[DoitTask]:
    """The doit tasks of every step of a catalog. Raises doit's InvalidDodoFile."""
    try:
        found = loaded(path)
    except BuildError as error:
        raise InvalidDodoFile(as_printed(error)) from error
    for warning in found.warnings:
        warn(warning)
    run, steps = Run(found.sights, found.steps), found.steps
    current().catalogs[path] = run, steps
    run.sights.database.know(step.record_id for step in steps)
    yield from groups(path, groups_of(steps))
    for step in steps:
        yield task_of(step, run)
    yield from tasks_of_hosts(steps)
    if current().pushes:
        from ollamake.pushing import pushings

        yield from (pushing.task for pushing in pushings(run, steps))


def groups_of(steps: Iterable[Step]) -> dict[str, str]:
    """What each stage is for, in the order of the stages."""
    return {step.stage: PURPOSES[step.stage].format("each dataset" if step.stage == "validate" else "each model") for step in steps}


def task_of(step: Step, run: Run) -> DoitTask:
    """The doit task of a step.

    File dependencies give doit the order. Whether a step is fresh, `run` says by the step's record, which doit's database hands out.
    """
    task: DoitTask = {
        "basename": step.stage,
        "name": step.id.removeprefix(f"{step.stage}:"),
        "doc": PURPOSES[step.stage].format(step.name),
        "file_dep": list(step.reads),
        "targets": list(step.writes),
        "task_dep": list(step.after),
        "actions": [(run.do, [step])],
        "uptodate": [(run.is_fresh, [step])],
        "verbosity": 2,
        "meta": {"ollamake": step},
    }
    if step.host is not None or (step.stage == "train" and isinstance(step.subject, Model) and step.subject.engine.kind != LOCAL):
        task["io"] = {"capture": False}  # several run at once in threads, and there is but one sys.stdout
    if step.stage in {"validate", "convert", "package"}:
        task["clean"] = [(clean, [step, run])]
    return task


def tasks_of_hosts(steps: Iterable[Step]) -> Iterator[DoitTask]:
    """Where there are several servers: a task for each stage of a model on all of them, `test:legal`."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        if step.host is not None:
            found.setdefault((step.stage, step.name), []).append(step.id)
    for (stage, name), ids in found.items():
        yield {"basename": stage, "name": name, "doc": f"{PURPOSES[stage].format(name)}, on each server", "actions": None, "task_dep": ids}


def clean(step: Step, run: Run) -> TaskFailed | None:
    """Remove what the step has made, and what it is explained by: all that is cheap to make again. Not while a build is on."""
    from ollamake.stages.train import EVENTS, LOG  # takes longer to be imported than a run without work takes

    run.sights.database.hold()
    folder = Path(step.writes[0]).parent
    if step.stage == "validate":  # other datasets have their markers in the same folder
        found = [*map(Path, step.writes), Path(index_path(step.writes[0])), Path(rows_path(step.writes[0])), receipt_path(step, "")]
    else:
        found = [path for path in folder.glob("*") if path.name not in {EVENTS, LOG}]  # these tell of an adapter, which stays
    try:
        for path in found:
            if not path.is_dir():  # jobs of trainings: a finished one may be taken up
                path.unlink(missing_ok=True)
    except OSError as error:
        return TaskFailed(with_fix(f"{error.filename} can't be removed: {error.strerror}", remedy(error)))
    with suppress(OSError):
        folder.rmdir()
    return None
