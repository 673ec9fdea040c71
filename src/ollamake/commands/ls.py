"""`doit ls [SELECTOR...]`: the models that a selector means, a line each; or the files that they are made by."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ollamake.call import current
from ollamake.catalog import Dataset, Model
from ollamake.commands.look import AS_JSON, Look, models_of
from ollamake.commands.select import EXCLUDE, selected

FILES = {
    "name": "files",
    "long": "files",
    "type": bool,
    "default": False,
    "help": "list what people edit of them instead: catalogs, and the files of their datasets",
}


class LsCommand(Look):
    """List models."""

    name = "ls"
    doc_purpose = "list the models that a selector means"
    doc_usage = "[SELECTOR...]"
    doc_description = "A line for each: its name, base, datasets and tags."
    cmd_options = (AS_JSON, EXCLUDE, FILES)

    def _execute(self, *, json: bool, exclude: Sequence[str], files: bool, pos_args: Sequence[str]) -> int:
        self.catalogs()
        models = models_of(current().steps)
        if files:
            found = files_of(models[name] for name in selected(pos_args, exclude))
            self.outstream.write(to_json.dumps(found, indent=2, ensure_ascii=False) + "\n" if json else files_as_text(found))
            return 0
        facts = [as_json(models[name]) for name in selected(pos_args, exclude)]
        self.outstream.write(to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n" if json else as_text(facts))
        return 0


def files_of(models: Iterable[Model]) -> dict[str, Any]:
    """The catalogs, the files of the datasets that these models read, by dataset, and the patterns that they were found by."""
    catalogs = [run.sights.catalog for run, _ in current().catalogs.values()]
    datasets: dict[str, Dataset] = {dataset.name: dataset for model in models for dataset in model.data}
    return {
        "catalogs": [path for catalog in catalogs for path in catalog.digests],
        "datasets": {name: list(dataset.files) for name, dataset in datasets.items()},
        "patterns": [pattern for catalog in catalogs for pattern in catalog.patterns],
    }


def files_as_text(found: Mapping[str, Any]) -> str:
    """The same for people: a file a line, behind what it is of."""
    rows = [("catalog", path) for path in found["catalogs"]] + [(name, path) for name, paths in found["datasets"].items() for path in paths]
    width = max(len(what) for what, _ in rows)
    return "".join(f"{what:<{width}}  {path}\n" for what, path in rows)


def as_json(model: Model) -> dict[str, Any]:
    """The model for programs."""
    return {
        "model": model.name,
        "base": model.base.name,
        "data": [dataset.name for dataset in model.data],
        "adapter": model.adapter,
        "tags": list(model.tags),
        "at": str(model.mark),
    }


def as_text(facts: Iterable[dict[str, Any]]) -> str:
    """The same for people."""
    rows = [(model["model"], model["base"], ", ".join(model["data"]) or model["adapter"], ", ".join(model["tags"])) for model in facts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)
