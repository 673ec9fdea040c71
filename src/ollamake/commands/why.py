"""`doit why SELECTOR...`: why its steps last ran, why they will run next, and what the model in Ollama was made from."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog.provenance import origins
from ollamake.commands.look import AS_JSON, Look, models_of, needed_by
from ollamake.commands.select import EXCLUDE, selected
from ollamake.duration import duration
from ollamake.foresight import Foresight
from ollamake.freshness import shown
from ollamake.graph import LATEST, Step
from ollamake.plan import PERHAPS, Planned, planned
from ollamake.sights import Sights
from ollamake.spelling import counted
from ollamake.state.receipts import Receipt
from ollamake.state.versions import history

ROLLED_BACK = "rolled back"  # as a test step is accepted that was not run
SERVED = {"adapter": "a GGUF LoRA", "merged": "merged weights", "split": "merged weights, split"}


class WhyCommand(Look):
    """Explain a model."""

    name = "why"
    doc_purpose = "say why a model's steps last ran and will run, and what it was made from"
    doc_usage = "SELECTOR..."
    doc_description = (
        "Stage by stage, down to the records and keys that changed. Then what is registered now: base, datasets, recipe, versions, commit. "
        "Then the values of the catalog, each with the file and line that it comes from."
    )
    cmd_options = (AS_JSON, EXCLUDE)

    def _execute(self, *, json: bool, exclude: Sequence[str], pos_args: Sequence[str]) -> int:
        if not pos_args:
            msg = "usage: doit why SELECTOR..."
            raise InvalidCommand(msg)
        catalogs = self.catalogs()
        names = selected(pos_args, exclude)
        facts = [explain(name, sights, steps) for name in names for sights, steps in catalogs if needed_by([name], steps)]
        self.outstream.write(to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n" if json else "\n".join(map(as_text, facts)))
        return 0


def explain(name: str, sights: Sights, all_steps: tuple[Step, ...]) -> dict[str, Any]:
    """All that is known of a model: `steps`, each with what it did last and why it runs next, `registered`, what is in Ollama now, and `values` of the catalog."""
    foresight = Foresight(sights, all_steps)
    steps = needed_by([name], all_steps)
    plans = {plan.step.id: plan for plan in planned(steps, foresight)}
    tests = [step for step in steps if step.stage == "test" and step.name == name]
    registered = [_registered(step, foresight, steps) for step in tests]
    return {
        "model": name,
        "fresh": not plans,
        "steps": [{"step": step.id, "last": _last(foresight.receipt(step)), "next": _next(plans.get(step.id))} for step in steps],
        "registered": registered[0],
        **({"also registered": registered[1:]} if registered[1:] else {}),
        "values": [origin.as_json() for origin in origins(sights.catalog, models_of(steps)[name])],
    }


def _last(receipt: Receipt | None) -> dict[str, Any] | None:
    if receipt is None:
        return None
    facts = {"finished": receipt.finished, "seconds": receipt.seconds, "commit": receipt.commit, "reasons": receipt.reasons}
    facts.update({name: receipt.outcome[name] for name in ("cache", "where") if name in receipt.outcome})
    return facts if receipt.record.accepted is None else {**facts, "accepted": receipt.record.accepted}


def _next(plan: Planned | None) -> dict[str, Any] | None:
    return None if plan is None else {"runs": plan.runs, "reasons": [reason.text for reason in plan.reasons]}


def _registered(test: Step, foresight: Foresight, steps: Sequence[Step]) -> dict[str, Any]:
    """What the model is made from that one server has, as the test step of that server knows it."""
    sights, name = foresight.sights, test.name
    receipts = {
        step.stage: foresight.receipt(step) for step in steps if step.name == name and step.stage != "validate" and step.host in {None, test.host}
    }
    tested, receipt = receipts["test"], receipts["register"]
    known, at = sights.known(test), sights.host(test).name
    if tested is None or receipt is None:
        is_there = f"{name}:{LATEST}" in (known or {})
        return {"there": False, "note": f"nothing is remembered of it on {at}{', though a model of this name is there' if is_there else ''}"}
    ((model, digest),) = tested.record.targets.items()
    there = None if known is None else known.get(model) == digest
    note = {
        None: f"nothing answers at {at}: this is what was registered there last",
        False: f"{name} on {at} is gone or was replaced by hand: this is what was registered there last",
        True: "",
    }[there]
    took = {stage: found.seconds for stage, found in receipts.items() if found is not None}
    took["train"] = receipt.outcome.get("provenance", {}).get("seconds", took.get("train", 0.0))
    facts = {key: value for key, value in receipt.outcome.items() if key not in {"digest", "name", "provenance"}}
    if tested.record.accepted is not None:  # it was rolled back: what was registered last is another version
        facts, took = {"host": at, **_version(sights.host(test).file_name, name, digest)}, {}
    else:
        facts.update(receipt.outcome.get("provenance", {}))
    return {
        "there": there,
        "note": note,
        "model": model,
        "digest": digest,
        **facts,
        "tested": _tested(tested),
        "took": took,
    }


def _version(place: str, name: str, digest: str) -> dict[str, Any]:
    """What the history says of a version."""
    found = next((version for version in reversed(history(place, name)) if version.digest == digest), None)
    return {} if found is None else found.provenance


def _tested(receipt: Receipt) -> str:
    if receipt.record.accepted is not None:
        return receipt.record.accepted
    counts = receipt.outcome["tests"]
    return f"{counted(counts['passed'], 'test')} passed, {_day(receipt.finished)}"


def as_text(facts: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [f"{facts['model']}: {'fresh' if facts['fresh'] else 'not up to date'}"]
    for step in facts["steps"]:
        lines += [step["step"], f"    last  {_said_last(step['last'])}", f"    next  {_said_next(step['next'])}"]
    for registered in (facts["registered"], *facts.get("also registered", ())):
        lines.append("registered now" if registered["there"] else f"not known to be registered: {registered['note']}")
        lines.extend(f"    {what:<9} {value}" for what, value in _provenance(registered) if value)
    lines += ["values", *_values(facts["values"])]
    return "\n".join(lines) + "\n"


def _values(values: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [(value["key"], shown(value["value"]), value["at"] or "default") for value in values]
    keys, texts = (max(len(row[column]) for row in rows) for column in (0, 1))
    yield from (f"    {key:<{keys}}  {text:<{texts}}  {place}" for key, text, place in rows)


def _said_last(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "never, as far as is known here"
    if "accepted" in last:
        return f"{_day(last['finished'])}: {'' if last['accepted'].startswith(ROLLED_BACK) else 'accepted: '}{last['accepted']}"
    taken = f", by others; taken from the cache {_day(last['cache']['taken'])}" if "cache" in last else ""
    where = f" on {last['where']}" if "where" in last else ""
    return f"{_day(last['finished'])}, {duration(last['seconds'])}{where}{taken}: {'; '.join(last['reasons']) or 'asked for'}"


def _said_next(following: Mapping[str, Any] | None) -> str:
    if following is None:
        return "fresh"
    return f"{'perhaps: ' if following['runs'] == PERHAPS else ''}{'; '.join(following['reasons'])}"


def _provenance(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "model" not in facts:
        return
    yield "model", f"{facts['model']} {facts['digest']}"
    yield "on", ", ".join((facts["host"], *((f"Ollama {facts['version']}", f"as {SERVED[facts['weights']]}") if "weights" in facts else ())))
    yield "base", f"{facts['base']['name']} {facts['base']['digest']}" if "base" in facts else ""
    for dataset in facts.get("data", ()):
        yield "dataset", f"{dataset['name']}: {dataset.get('records')} records, {dataset.get('digest')}"
    recipe = facts.get("recipe", {})
    yield "recipe", "; ".join(f"{key} {_value(value)}" for key, value in recipe.items() if key != "command")
    start = facts.get("start", {})
    yield "began", f"with the adapter of {start['from']}: training {start['chain']} upon one another" if start.get("chain", 1) > 1 else ""
    yield "trainer", facts.get("trainer", "")
    yield "versions", ", ".join(f"{key} {value}" for key, value in facts.get("versions", {}).items() if key != "train")
    yield "commit", _commit(facts.get("commit"))
    yield "trained", _trained(facts)
    yield "accepted", facts.get("accepted", "")
    yield "took", ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in facts["took"].items())
    yield "tested", facts.get("tested", "")


def _trained(facts: Mapping[str, Any]) -> str:
    if "finished" not in facts:
        return "elsewhere: the adapter has no receipt" if "base" in facts else ""
    where = f" on {facts['where']}" if "where" in facts else ""
    return f"{_day(facts['finished'])}{where}{', by others: from the cache' if 'cache' in facts else ''}"


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else shown(value)


def _commit(commit: str | None) -> str:
    return "" if commit is None else f"{commit.removesuffix('+')}{', with edits since' if commit.endswith('+') else ''}"


def _day(moment: str) -> str:
    return f"{moment[:10]} {moment[11:16]} UTC"
