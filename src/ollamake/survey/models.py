"""What a report shows of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ollamake.catalog import Model
from ollamake.catalog.expanded import told, written
from ollamake.catalog.provenance import origins
from ollamake.duration import duration
from ollamake.freshness import shown
from ollamake.graph import BUILD, Step, adapter_folder
from ollamake.plan import FAILS, PERHAPS, Planned
from ollamake.report.facts import Hosted, ModelFacts, Promotion, RecipeValue, Row, TestsOnHost
from ollamake.spelling import counted
from ollamake.stages.served import read_served
from ollamake.standing import FRESH, MISSING, NEVER, NO_ANSWER, Standing, standings
from ollamake.state.receipts import Receipt
from ollamake.survey.ground import Ground
from ollamake.survey.lineage import lineage, made_by
from ollamake.survey.modelfile import modelfile
from ollamake.survey.past import curves, promotions, tests_on
from ollamake.survey.told import said, size, when


def facts_of_models(ground: Ground, names: Sequence[str]) -> Iterator[ModelFacts]:
    """What is shown of these models, in their order."""
    needed = ground.needed_by(names)
    plans = ground.plans(needed)
    stands: dict[str, list[Standing]] = {name: [] for name in names}
    for one in standings(names, ground.foresight, needed, list(plans.values())):
        stands[one.model].append(one)
    for name in names:
        own = {id_: plans[id_] for id_ in ground.needed(name) if id_ in plans}
        yield _facts(ground, _row(ground, name, stands[name]), stands[name], own)


def _row(ground: Ground, name: str, stands: Sequence[Standing]) -> Row:
    """A model in the table of the catalog. `stands`: one a server."""
    model = ground.models[name]
    package = next(step for step in ground.own[name] if step.stage == "package")
    served = read_served(Path(package.writes[0]))
    there = [one.digest for one in stands if one.is_there not in {MISSING, NEVER, NO_ANSWER} and one.digest is not None]
    return Row(
        name=name,
        state=_state(stands),
        base=model.base.name,
        data=tuple(dict.fromkeys(dataset.name for dataset in model.data)),
        tags=model.tags,
        trained=stands[0].adapter,
        digest=next(iter(there), next((one.digest for one in stands if one.digest is not None), None)),
        hosts=tuple(map(_hosted, stands)),
        adapter_bytes=ground.looks.sizes(made_by(package)),
        served_bytes=None if served is None else ground.looks.sizes(str(path) for path, _ in served.files),
    )


def _state(stands: Sequence[Standing]) -> str:
    """The first stage that is stale for any server; FRESH. Only the last two are a server's own: registered, then tested."""
    return min((one.stage for one in stands if one.stage != FRESH), key=lambda stage: stage == "test", default=FRESH)


def _hosted(one: Standing) -> Hosted:
    return Hosted(host=one.host, there=one.is_there, digest=one.digest, candidate=one.candidate, tests=one.tests, notes=one.drift)


def _facts(ground: Ground, row: Row, stands: Sequence[Standing], plans: Mapping[str, Planned]) -> ModelFacts:
    """All of it. `plans`: of the steps that will run or may, by their ids."""
    model = ground.models[row.name]
    own = ground.own[row.name]
    tests = [step for step in own if step.stage == "test"]
    package = next(step for step in own if step.stage == "package")
    train = next((step for step in own if step.stage == "train"), None)
    receipt = ground.foresight.receipt(train) if train else None
    nodes, edges = lineage(ground, model, plans, list(zip(tests, row.hosts, strict=True)))
    found: list[TestsOnHost] = []
    past: list[Promotion] = []
    for test, one in zip(tests, stands, strict=True):
        host = ground.sights.host(test)
        tags = ground.tags[ground.sights.hosts.index(host)]
        found.extend(tests_on(test, host.name, host.file_name, one, _made(ground, own, test)))
        past.extend(promotions(host.file_name, host.name, row.name, None if tags is None else tags.get(row.name, {})))
    return ModelFacts(
        row=row,
        description=said(_description(model, row, receipt)),
        reasons=tuple(_reasons(ground, row.name, plans)),
        will_fail=tuple(id_ for id_ in ground.needed(row.name) if id_ in plans and plans[id_].runs == FAILS),
        nodes=nodes,
        edges=edges,
        curves=tuple(curves(row.name, f"{BUILD}/{row.name}/events.jsonl", receipt)) if train else (),
        tests=tuple(found),
        recipe=tuple(_recipe(ground, model)),
        history=tuple(sorted(past, key=lambda one: one.at, reverse=True)),
        modelfile=modelfile(model, package),
    )


def _made(ground: Ground, own: Sequence[Step], test: Step) -> str | None:
    """The digest of what was last registered on the test's server."""
    register = next(step for step in own if step.stage == "register" and step.host == test.host)
    record = ground.foresight.remembered(register)
    return next(iter(record.targets.values()), None) if record else None


def _reasons(ground: Ground, name: str, plans: Mapping[str, Planned]) -> Iterator[tuple[str, str]]:
    needed = ground.needed(name)
    for id_ in sorted((id_ for id_ in needed if id_ in plans), key=ground.places.__getitem__):
        plan = plans[id_]
        yield id_, ("perhaps: " if plan.runs == PERHAPS else "") + "; ".join(reason.text for reason in plan.reasons)


def _recipe(ground: Ground, model: Model) -> Iterator[RecipeValue]:
    for origin in origins(ground.sights.catalog, model):
        value = shown(origin.value) if isinstance(origin.value, float) else json.dumps(origin.value, ensure_ascii=False)
        yield RecipeValue(key=origin.key, value=value, at=None if origin.mark is None else str(origin.mark))


def _description(model: Model, row: Row, receipt: Receipt | None) -> Iterator[tuple[str, str | None]]:
    outcome = receipt.outcome if receipt else {}
    yield "base", model.base.name
    if model.adapter is not None:
        yield "adapter", f"given: {written(model.adapter)}"
    else:
        yield "data", ", ".join(row.data)
        yield "adapter", adapter_folder(model)
        yield "trainer", str(outcome.get("trainer") or told(model.train.trainer))
        yield "rank", str(model.train.rank)
    if receipt is not None:
        yield "trained", when(receipt.finished)
        yield "training took", f"{duration(receipt.seconds)}{', on another machine: it came from the cache' if 'cache' in outcome else ''}"
        yield "records", ", ".join(_records(outcome.get("data")))
        yield "trained on", str(outcome.get("where") or "")
        yield "versions", ", ".join(f"{name} {version}" for name, version in receipt.record.versions.items() if name != "train")
        yield "commit", receipt.commit
        yield "taken as built", receipt.record.accepted
    yield "adapter's size", size(row.adapter_bytes)
    yield "served weights", size(row.served_bytes)
    yield "in the catalog", str(model.mark)


def _records(data: object) -> Iterator[str]:
    for one in data if isinstance(data, list) else ():
        if isinstance(one, dict) and isinstance(one.get("records"), int):
            yield f"{one.get('name')} {counted(one['records'], 'record')}"
