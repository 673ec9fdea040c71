"""`doit check --files`: which datasets and models files are of, as a hook before a commit is told their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from glob import escape
from itertools import chain

import doit

from ollamake.catalog import Dataset
from ollamake.commands.look import models_of
from ollamake.graph import Step
from ollamake.sights import Sights

FILES = {
    "name": "files",
    "long": "files",
    "type": bool,
    "default": False,
    "help": "the names are those of files, seen from where doit was typed; check what they are of, and pass over the rest",
}
DODO = "dodo.py"


def named_by(files: Iterable[str], catalogs: Sequence[tuple[Sights, tuple[Step, ...]]]) -> list[str] | None:
    """The datasets that read these files, and the models whose adapters they are of; None where one is a catalog's or the dodo.py: they may mean anything."""
    typed_in = doit.get_initial_workdir() or os.getcwd()
    paths = {os.path.relpath(os.path.join(typed_in, file)) for file in files}
    steps = [*chain.from_iterable(steps for _, steps in catalogs)]
    if paths & {DODO, *(os.path.relpath(path) for sights, _ in catalogs for path in sights.catalog.digests)}:
        return None
    datasets = [step.name for step in steps if isinstance(step.subject, Dataset) and any(os.path.relpath(path) in paths for path in step.reads)]
    folders = {path for file in paths for path in _with_parents(file)}
    models = [name for name, model in models_of(steps).items() if model.adapter is not None and os.path.relpath(model.adapter) in folders]
    return [escape(name) for name in (*datasets, *models)]


def _with_parents(path: str) -> Iterable[str]:
    while path:
        yield path
        path = os.path.dirname(path)
