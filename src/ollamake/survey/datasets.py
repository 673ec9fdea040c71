"""What a report shows of a dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.catalog import Dataset
from ollamake.catalog.expanded import told, written
from ollamake.errors import BuildError
from ollamake.foresight import checked_now
from ollamake.graph import Step, index_path
from ollamake.plan import Planned
from ollamake.records.rules import ERROR, WARNING
from ollamake.records.verdict import Verdict
from ollamake.report.facts import DatasetFacts, DatasetRow, File, Growth, Said
from ollamake.spelling import counted
from ollamake.stages.reading import Example
from ollamake.stages.validate import read_marker
from ollamake.standing import FRESH
from ollamake.state.versions import short
from ollamake.survey.ground import Ground
from ollamake.survey.lengths import COUNTED, lengths_of, some_of
from ollamake.survey.samples import samples
from ollamake.survey.told import said, when

STALE, FAILED = "stale", "failed"
SHOWN = 100  # breaches of rules
SAMPLES = 8  # records
FILES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What is known of a dataset's records."""

    state: str
    facts: Mapping[str, Any]  # as a marker has them
    records: Mapping[str, int]  # of each file
    breaches: tuple[Said, ...]
    more: int
    problem: str = ""  # why it can't be read


def facts_of_datasets(
    ground: Ground, names: Sequence[str], readers: Mapping[str, Mapping[str, str]], growth: Mapping[str, tuple[Growth, ...]]
) -> Iterator[DatasetFacts]:
    """What is shown of these datasets, in their order. `readers`: of each, its models and their states."""
    plans = ground.plans(ground.datasets[name] for name in names)
    for name in names:
        yield _facts(ground, name, plans.get(ground.datasets[name].id), readers.get(name, {}), growth.get(name, ()))


def _facts(ground: Ground, name: str, plan: Planned | None, readers: Mapping[str, str], growth: tuple[Growth, ...]) -> DatasetFacts:
    step = ground.datasets[name]
    dataset = step.subject
    assert isinstance(dataset, Dataset)
    checked = _checked(step, dataset, plan)
    known = checked.facts.get("records")
    records = known if isinstance(known, int) else None
    models = ground.readers.get(name, ())
    examples = _examples(dataset, records)
    counted_of = list(lengths_of(examples, records or len(examples), models))
    shown = examples[:: max(1, len(examples) // SAMPLES)][:SAMPLES]
    return DatasetFacts(
        row=DatasetRow(
            name=name,
            state=checked.state,
            files=len(dataset.files),
            bytes=ground.looks.sizes(dataset.files) or 0,
            records=records,
            warnings=sum(_counts(checked.facts.get("warnings")).values()),
            readers=len(models),
        ),
        description=_description(ground, step, dataset, checked, plan),
        files=tuple(
            File(path=written(path), bytes=ground.looks.size(path) or 0, records=checked.records.get(path)) for path in dataset.files[:FILES]
        ),
        duplicates=checked.facts.get("duplicates"),
        said=checked.breaches,
        more_said=checked.more,
        lengths=tuple(counted_of),
        samples=tuple(samples(dataset, shown)),
        readers=tuple((model.name, readers.get(model.name, "")) for model in models),
        growth=growth,
    )


def _examples(dataset: Dataset, records: int | None) -> list[Example]:
    try:
        return some_of(dataset, records or 0, COUNTED)[: 2 * COUNTED]
    except (BuildError, OSError):
        return []


def _checked(step: Step, dataset: Dataset, plan: Planned | None) -> _Checked:
    """By its marker where that is what a check would say, and there is nothing to be told record by record; else by a check, which writes nothing."""
    marker = read_marker(step.writes[0])
    if plan is None and marker and not marker.get("warnings") and not marker.get("duplicates"):
        return _Checked(state=FRESH, facts=marker, records=_records(step), breaches=(), more=0)
    try:
        checked, _ = checked_now(dataset, step.writes[0])
    except (BuildError, OSError) as error:
        text = str(error).partition("\n")[0]
        if isinstance(error, OSError):
            text = f"{error.filename}: {error.strerror}"
        return _Checked(state=FAILED, facts={}, records={}, breaches=(), more=0, problem=text)
    verdict = checked.verdict
    found = [*_breaches(verdict, ERROR), *_breaches(verdict, WARNING)]
    counts = sum(sum(verdict.counts(severity).values()) for severity in (ERROR, WARNING))
    state = FAILED if verdict.counts(ERROR) else FRESH if plan is None else STALE
    return _Checked(
        state=state,
        facts=json.loads(verdict.marker),
        records={file["path"]: file["records"] for file in checked.index["files"]},
        breaches=tuple(found[:SHOWN]),
        more=max(0, counts - len(found[:SHOWN])),
    )


def _breaches(verdict: Verdict, severity: str) -> Iterator[Said]:
    for breach in verdict.breaches(severity):
        if breach.fix is not None or not breach.text.startswith("and "):  # the rest is counted
            yield Said(at=str(breach.mark), rule=breach.rule, text=breach.text, fix=breach.fix, is_error=severity == ERROR)


def _records(step: Step) -> Mapping[str, int]:
    """The records of each file, as the last check has left them."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        text = Path(index_path(step.writes[0])).read_text(encoding="utf-8").partition("\n")[0]
        return {file["path"]: int(file["records"]) for file in json.loads(text)["files"]}
    return {}


def _counts(value: object) -> Mapping[str, int]:
    return value if isinstance(value, dict) and all(isinstance(count, int) for count in value.values()) else {}


def _description(ground: Ground, step: Step, dataset: Dataset, checked: _Checked, plan: Planned | None) -> tuple[tuple[str, str], ...]:
    facts, receipt = checked.facts, ground.foresight.receipt(step)
    characters = _counts(facts.get("characters"))
    digest = str(facts.get("digest", ""))
    return said(
        (
            ("problem", checked.problem),
            ("will be checked because", "" if plan is None else "; ".join(reason.text for reason in plan.reasons)),
            ("format", str(facts.get("format", "")) or dataset.format),
            ("fields", _listed(told(dict(dataset.fields)).items())),
            ("rules", _listed(dataset.rules.items())),
            ("JSON Schema", None if dataset.schema is None else written(dataset.schema)),
            ("held out", f"{counted(int(facts['held_out']), 'record')} ({dataset.holdout:g} of them)" if facts.get("held_out") else ""),
            ("left out", f"{counted(int(facts['left_out']), 'line')} without a record" if facts.get("left_out") else ""),
            ("characters", _listed(characters.items())),
            ("digest", short(digest)),
            ("checked" if plan is None else "checked by a build", when(receipt.finished) if receipt else ""),
            ("in the catalog", str(dataset.mark)),
        )
    )


def _listed(facts: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in facts)
