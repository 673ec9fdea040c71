"""The loss of records, of a model's base and of its adapter on it: measured by transformers, in a process of its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ollamake.catalog import Model
from ollamake.catalog.tests import Measure
from ollamake.engines.local import run_guarded
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.graph import adapter_folder
from ollamake.logs import last_lines
from ollamake.stages.base_forms import base_as_read
from ollamake.stages.convert import lengths_of, line_of
from ollamake.stages.reading import Example
from ollamake.trainers.environment import Environment
from ollamake.trainers.hf_variables import hf_variables
from ollamake.trainers.peft import NEEDS
from ollamake.trainers.port import HF

PROGRAM = "ollamake.trainers.peft_measure"


def losses(model: Model, measure: Measure, examples: Iterable[Example]) -> tuple[dict[str, float], int]:
    """The mean loss of the answers' tokens, by "base" and "adapter", and the number of records. Those that are too long for the training are left out.

    Raises BuildError where torch and transformers are not installed here, or the loss can't be measured.
    """
    about = f"{measure.mark}: test {measure.name!r}"
    if Environment().missing(NEEDS):
        msg = f"{about}: the loss is measured by transformers, which is not installed"
        raise BuildError(msg, fix=f"{Environment().pip('ollamake[peft]')}, or write another metric")
    lengths = lengths_of(model)
    lines = [line_of(example, "chat", lengths) for example in lengths.short(examples)]
    if not lines:
        msg = f"{about}: every record is longer than train.max_tokens {model.train.max_tokens}"
        raise BuildError(msg, fix="ask about other records, or raise max_tokens")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    base = base_as_read(model.base, HF, cache)
    with tempfile.TemporaryDirectory(prefix="ollamake-loss-") as name:
        folder = Path(name)
        (folder / "text.jsonl").write_text("".join(lines), encoding="utf-8")
        job = {
            "base": base,
            "text": str(folder / "text.jsonl"),
            "adapter": os.path.abspath(adapter_folder(model)),
            "max_tokens": model.train.max_tokens,
        }
        (folder / "measure.json").write_text(json.dumps(job), encoding="utf-8")
        return _run(folder, about, offline="hf" not in base), len(lines)


def _run(folder: Path, about: str, *, offline: bool) -> dict[str, float]:
    log = folder / "log"
    with log.open("w", encoding="utf-8") as output:
        run_guarded(Environment().python("-m", PROGRAM, str(folder)), output, hf_variables(offline=offline))
    try:
        found = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{about}: the loss could not be measured; the program says last:\n{last_lines(log)}"
        raise BuildError(msg, fix="look whether there is memory enough for the base in float32") from error
    if "failed" in found:
        msg = f"{about}: the loss could not be measured: {found['failed']}"
        raise BuildError(msg, fix=found.get("fix") or None)
    return {"base": float(found["base"]), "adapter": float(found["adapter"])}
