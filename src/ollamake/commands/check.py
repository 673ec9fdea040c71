"""`doit check [DATASET|FILE|MODEL...]`: hold datasets to their rules, and adapters to their bases; build nothing."""

from __future__ import annotations

import fnmatch
import json as to_json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.catalog import Dataset, Model
from ollamake.catalog.tests import said_tests
from ollamake.commands.changed import FILES, named_by
from ollamake.commands.look import AS_JSON, Look, models_of
from ollamake.errors import BuildError, Fault, FaultyFileError, as_printed
from ollamake.foresight import checked_now
from ollamake.graph import Step
from ollamake.records.rules import ERROR, WARNING
from ollamake.records.verdict import Verdict
from ollamake.spelling import counted, nearest
from ollamake.stages.convert import leaks_of, lengths_of, said
from ollamake.stages.mixture import mixture
from ollamake.stages.verdicts import Judged, has_adapter, is_lost, judged
from ollamake.state.files import remedy

FAULTY = 1  # exit code


class CheckCommand(Look):
    """Check datasets and adapters."""

    name = "check"
    doc_purpose = "hold datasets to their rules, and adapters to their bases; build nothing"
    doc_usage = "[DATASET|FILE|MODEL...]"
    doc_description = (
        "Names every fault and warning at its file and line, and says how long the records are. A dataset may be named by one of its files, as "
        "pre-commit does. What a model makes of its datasets is checked too, where its base is there: records that are too long, and leaks. "
        "Of a model that is named, the adapter is checked, given or trained; without names, those that are given. "
        f"Exit code: 0 where there is no error, {FAULTY} where there is one."
    )
    cmd_options = (AS_JSON, FILES)

    def _execute(self, *, json: bool, files: bool, pos_args: Sequence[str]) -> int:
        catalogs = self.catalogs()
        if files:
            names = named_by(pos_args, catalogs)
            if names == []:
                return 0
            pos_args = names or ()
        steps = list(chain.from_iterable(steps for _, steps in catalogs))
        datasets = [step for step in steps if isinstance(step.subject, Dataset)]
        models = list(models_of(steps).values())
        of_datasets = [name for name in pos_args if not _models(name, models) or any(fnmatch.fnmatchcase(step.name, name) for step in datasets)]
        chosen = _chosen(of_datasets, datasets) if of_datasets or not pos_args else []
        adapters = [*_adapters(pos_args, models, {step.name for step in datasets})]
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
        trained = [step.subject for step in steps if step.stage == "convert" and isinstance(step.subject, Model)]
        reading = [model for model in trained if {dataset.name for dataset in model.data} & named and not {d.name for d in model.data} & faulty]
        told = [_told(model) for model in _each(reading)]
        if json:
            self.outstream.write(_as_json(verdicts, told, refused, adapters))
        else:
            self.outstream.writelines(f"{line}\n" for line in (*refused.values(), *_as_text(verdicts, told, adapters)))
        return FAULTY if faulty or any(model["faults"] for model in told) or any(adapter.is_refused for adapter in adapters) else 0


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
            fix = nearest(name, [*(step.name for step in steps), *models_of(current().steps)])
            raise InvalidCommand(
                as_printed(BuildError(f"no dataset or model {name!r} in the catalog, and no dataset has a file of this name", fix=fix))
            )
        found.update({step.id: step for step in matches})
    return list(found.values()) if names else list(steps)


def _models(name: str, models: Iterable[Model]) -> list[Model]:
    return [model for model in models if fnmatch.fnmatchcase(model.name, name)]


def _adapters(names: Sequence[str], models: Sequence[Model], datasets: Collection[str]) -> Iterator[Judged]:
    """The verdicts on the adapters of these models; where none are named, on those that are given. One that is given and lost is a fault.

    A name may be that of a dataset too: then nothing is said of an adapter that is not here.
    """
    named = {model.name: model for name in names for model in _models(name, models)}
    for model in named.values():
        if is_lost(model) or has_adapter(model):
            yield judged(model)
        elif model.name in names and model.name not in datasets:
            print(f"{model.name}: its adapter, or its base, is not here", file=sys.stderr)
    if not names:
        yield from (judged(model) for model in models if is_lost(model) or (model.adapter is not None and has_adapter(model)))


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


def _as_text(verdicts: Iterable[Verdict], models: Iterable[dict[str, Any]], adapters: Iterable[Judged]) -> Iterator[str]:
    for verdict in verdicts:
        yield from map(str, sorted([*verdict.faults, *verdict.warnings], key=lambda fault: fault.mark))
        yield f"{verdict.name}: {_summary(verdict)}"
    for model in models:
        yield from map(str, [*model["faults"], *model["warnings"]])
        yield f"{model['model']}: {model['note']}"
    for adapter in adapters:
        yield from adapter.lines()


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


def _as_json(verdicts: Iterable[Verdict], models: Iterable[dict[str, Any]], refused: Mapping[str, str], adapters: Iterable[Judged]) -> str:
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
        "adapters": [adapter.as_json() for adapter in adapters],
    }
    return to_json.dumps(facts, indent=2) + "\n"
