"""`doit check [DATASET...]`: hold datasets to their rules, and build nothing."""

from __future__ import annotations

import fnmatch
import json as to_json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog import Dataset, Model
from ollamake.catalog.tests import said_tests
from ollamake.commands.look import AS_JSON, Look
from ollamake.errors import BuildError, Fault, FaultyFileError, as_printed
from ollamake.foresight import checked_now
from ollamake.graph import Step
from ollamake.records.rules import ERROR, WARNING
from ollamake.records.verdict import Verdict
from ollamake.spelling import counted, nearest
from ollamake.stages.convert import leaks_of, lengths_of, said
from ollamake.stages.mixture import mixture
from ollamake.state.files import remedy

FAULTY = 1  # exit code


class CheckCommand(Look):
    """Check datasets."""

    name = "check"
    doc_purpose = "hold datasets to their rules, and build nothing"
    doc_usage = "[DATASET|FILE...]"
    doc_description = (
        "Names every fault and warning at its file and line, and says how long the records are. A dataset may be named by one of its files, as "
        "pre-commit does. What a model makes of its datasets is checked too, where its base is there: records that are too long, and leaks. "
        f"Exit code: 0 where there is no error, {FAULTY} where there is one."
    )
    cmd_options = (AS_JSON,)

    def _execute(self, *, json: bool, pos_args: Sequence[str]) -> int:
        steps = list(chain.from_iterable(steps for _, steps in self.catalogs()))
        chosen = _chosen(pos_args, [step for step in steps if isinstance(step.subject, Dataset)])
        verdicts: list[Verdict] = []
        refused: dict[str, str] = {}  # dataset -> why it can't be checked at all
        for step in chosen:
            found = _verdict(step)
            if isinstance(found, Verdict):
                verdicts.append(found)
            else:
                refused[step.name] = str(found)
        faulty = {*refused, *(verdict.name for verdict in verdicts if verdict.counts(ERROR))}
        named = {step.name for step in chosen}
        models = [step.subject for step in steps if step.stage == "convert" and isinstance(step.subject, Model)]
        reading = [model for model in models if {dataset.name for dataset in model.data} & named and not {d.name for d in model.data} & faulty]
        told = [_told(model) for model in _each(reading)]
        if json:
            self.outstream.write(_as_json(verdicts, told, refused))
        else:
            self.outstream.writelines(f"{line}\n" for line in (*refused.values(), *_as_text(verdicts, told)))
        return FAULTY if faulty or any(model["faults"] for model in told) else 0


def _verdict(step: Step) -> Verdict | BuildError:
    """What is found in the step's dataset; the error, where it can't be read."""
    dataset = step.subject
    assert isinstance(dataset, Dataset)
    lost = next((path for path in step.reads if not Path(path).is_file()), None)
    if lost is not None or not dataset.files:
        what = "no file matches its `files`" if lost is None else f"no such file: {lost}"
        msg = f"{dataset.mark}: dataset {dataset.name!r}: {what}"
        return BuildError(msg, fix="put it there, or mend the path in the catalog")
    try:
        return checked_now(dataset, step.writes[0])[0].verdict
    except BuildError as error:
        return error
    except OSError as error:
        msg = f"{dataset.mark}: dataset {dataset.name!r}: {error.filename}: {error.strerror}"
        return BuildError(msg, fix=remedy(error))


def _chosen(names: Sequence[str], steps: Sequence[Step]) -> list[Step]:
    """The steps of the datasets that these names, patterns or files mean; all, where there are none. Raises InvalidCommand."""
    found: dict[str, Step] = {}
    for name in names:
        path = Path(os.path.relpath(name)).as_posix() if os.path.isabs(name) else Path(name).as_posix()
        matches = [step for step in steps if fnmatch.fnmatchcase(step.name, name) or path in step.reads]
        if not matches and Path(name).is_file():
            print(f"{path}: in no dataset", file=sys.stderr)
        elif not matches:
            fix = nearest(name, [step.name for step in steps])
            raise InvalidCommand(as_printed(BuildError(f"no dataset {name!r} in the catalog, and none has a file of this name", fix=fix)))
        found.update({step.id: step for step in matches})
    return list(found.values()) if names else list(steps)


def _each(models: Iterable[Model]) -> Iterator[Model]:
    """One of those models that would be told the same of."""
    seen = set()
    for model in models:
        portions = tuple((portion.dataset.name, portion.weight, portion.limit) for portion in model.portions)
        what = (portions, model.base.name, model.train.max_tokens, model.train.system, str(said_tests(model)))
        if what not in seen:
            seen.add(what)
            yield model


def _told(model: Model) -> dict[str, Any]:
    """What is known of the records as the model reads them."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    try:
        warnings += leaks_of(model)
    except FaultyFileError as error:
        faults += error.faults
    lengths = lengths_of(model) if Path(model.base.gguf).is_file() else None
    try:
        for _ in lengths.fitted(mixture(model, {})) if lengths else ():
            pass
    except FaultyFileError as error:
        faults += error.faults
    warnings += [lengths.warning] if lengths and lengths.warning else []
    note = f"tokens not counted: {model.base.gguf} is not there" if lengths is None else said(lengths)
    return {"model": model.name, "faults": faults, "warnings": warnings, "note": note, "lengths": None if lengths is None else lengths.facts}


def _as_text(verdicts: Iterable[Verdict], models: Iterable[dict[str, Any]]) -> Iterator[str]:
    for verdict in verdicts:
        yield from map(str, sorted([*verdict.faults, *verdict.warnings], key=lambda fault: fault.mark))
        yield f"{verdict.name}: {_summary(verdict)}"
    for model in models:
        yield from map(str, [*model["faults"], *model["warnings"]])
        yield f"{model['model']}: {model['note']}"


def _summary(verdict: Verdict) -> str:
    """`1204 records (alpaca), characters: median 120, p90 301; 2 errors, 1 warning`."""
    parts = [f"{counted(verdict.records, 'record')} ({verdict.format})"]
    if verdict.characters:
        parts.append(f"characters: {', '.join(f'{name} {value}' for name, value in verdict.characters.items())}")
    if verdict.held_out:
        parts.append(f"{verdict.held_out} held out")
    if verdict.left_out:
        parts.append(f"{counted(verdict.left_out, 'line')} left out")
    counts = [counted(sum(verdict.counts(severity).values()), severity) for severity in (ERROR, WARNING) if verdict.counts(severity)]
    return "; ".join([*parts, ", ".join(counts) or "no fault"])


def _as_json(verdicts: Iterable[Verdict], models: Iterable[dict[str, Any]], refused: Mapping[str, str]) -> str:
    facts = {
        "datasets": [
            {
                "dataset": verdict.name,
                **to_json.loads(verdict.marker),
                "errors": verdict.counts(ERROR),
                "found": [breach.as_json() for severity in (ERROR, WARNING) for breach in verdict.breaches(severity)],
            }
            for verdict in verdicts
        ],
        "refused": dict(refused),
        "models": [{**model, "faults": [*map(str, model["faults"])], "warnings": [*map(str, model["warnings"])]} for model in models],
    }
    return to_json.dumps(facts, indent=2) + "\n"
