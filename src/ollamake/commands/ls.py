"""`doit ls [SELECTOR...]`: the models that a selector means, a line each."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterable, Sequence
from typing import Any

from ollamake.call import current
from ollamake.catalog import Model
from ollamake.commands.look import AS_JSON, Look, models_of
from ollamake.commands.select import EXCLUDE, selected


class LsCommand(Look):
    """List models."""

    name = "ls"
    doc_purpose = "list the models that a selector means"
    doc_usage = "[SELECTOR...]"
    doc_description = "A line for each: its name, base, datasets and tags."
    cmd_options = (AS_JSON, EXCLUDE)

    def _execute(self, *, json: bool, exclude: Sequence[str], pos_args: Sequence[str]) -> int:
        self.catalogs()
        models = models_of(current().steps)
        facts = [as_json(models[name]) for name in selected(pos_args, exclude)]
        self.outstream.write(to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n" if json else as_text(facts))
        return 0


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
