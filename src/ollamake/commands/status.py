"""`doit status [SELECTOR...]`: how each model stands, here and on every server, in a table."""

from __future__ import annotations

import json as to_json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ollamake.call import current
from ollamake.commands.look import AS_JSON, Look, models_of, needed_by
from ollamake.commands.plan import STALE
from ollamake.commands.select import EXCLUDE, selected
from ollamake.errors import BuildError
from ollamake.foresight import Foresight
from ollamake.graph import Step
from ollamake.ollama.hosts import Host
from ollamake.plan import planned
from ollamake.sights import Sights
from ollamake.standing import FRESH, REPLACED, Standing, age, standings
from ollamake.state.versions import history, made_at, short

HEAD = ("model", "stage", "trained", "digest", "host", "there", "tests")
AT_ONCE = 8  # models of which it is asked what was edited


class StatusCommand(Look):
    """Say how the models stand."""

    name = "status"
    doc_purpose = "say how each model stands: stage, adapter, what each server has of it, tests"
    doc_usage = "[SELECTOR...]"
    doc_description = (
        "Each server is asked once, all of them at the same time. Of a model that was replaced by hand it is said what of it is another. "
        f"Exit code: 0 where everything is fresh, {STALE} where something is not."
    )
    cmd_options = (AS_JSON, EXCLUDE)

    def _execute(self, *, json: bool, exclude: Sequence[str], pos_args: Sequence[str]) -> int:
        catalogs = self.catalogs()
        names = selected(pos_args, exclude)
        found: list[Standing] = []
        for sights, steps in catalogs:
            foresight = Foresight(sights, steps, times=False)
            own = models_of(steps)
            plans = planned(needed_by([name for name in names if name in own], steps), foresight)
            found.extend(_explained(standings(names, foresight, steps, plans), sights, steps))
        gone = [] if pos_args or exclude else list(_gone([sights for sights, _ in catalogs]))
        is_fresh = all(one.stage == FRESH for one in found)
        self.outstream.write(_as_json(found, gone, is_fresh=is_fresh) if json else "".join(f"{line}\n" for line in _as_text(found, gone)))
        return 0 if is_fresh else STALE


def _explained(found: Sequence[Standing], sights: Sights, steps: Sequence[Step]) -> Iterator[Standing]:
    """The same, with what differs of those that were replaced by hand: they alone are asked."""
    models, hosts = models_of(steps), {host.name: host for host in sights.hosts}
    replaced = [one for one in found if one.is_there == REPLACED]
    if not replaced:
        yield from found
        return
    from ollamake.ollama.client import OllamaServer  # takes longer to be imported than all else takes
    from ollamake.stages.drift import differences

    def ask(one: Standing) -> list[str]:
        known = next((version for version in reversed(history(hosts[one.host].file_name, one.model)) if version.digest == one.digest), None)
        if known is not None:
            return [f"it is the version of {known.at[:10]} {known.at[11:16]} UTC"]
        try:
            with OllamaServer(hosts[one.host].address) as server:
                return differences(server, models[one.model])
        except BuildError:
            return []

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = dict(zip(replaced, pool.map(ask, replaced), strict=True))
    for one in found:
        differs = told.get(one)
        yield replace(one, drift=(*one.drift, f"{one.is_there}: {', '.join(differs)}")) if differs else one


def _gone(catalogs: Sequence[Sights]) -> Iterator[tuple[Host, str]]:
    """The models that this repo has made, that a server has still, and that are in the catalog no more."""
    named = {step.name for step in current().steps if step.stage != "validate"}
    hosts = {host.address: host for sights in catalogs for host in sights.hosts}
    for host in hosts.values():
        listed = {name.rpartition(":")[0] for name in host.known or ()}
        yield from ((host, name) for name in sorted(made_at(host.file_name) - named) if name in listed)


def _as_json(found: Sequence[Standing], gone: Sequence[tuple[Host, str]], *, is_fresh: bool) -> str:
    left = [{"model": name, "host": host.name} for host, name in gone]
    return to_json.dumps({"fresh": is_fresh, "models": [one.as_json() for one in found], "left": left}, indent=2, ensure_ascii=False) + "\n"


def _as_text(found: Sequence[Standing], gone: Sequence[tuple[Host, str]]) -> Iterator[str]:
    now = time.time()
    rows = [HEAD, *(_row(one, now) for one in found)] if found else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
    for one in found:
        yield from (f"{one.model} on {one.host}: {text}" for text in one.drift)
    for host, name in gone:
        yield f"{name} on {host.name} is in the catalog no more: `doit prune` removes it"


def _row(one: Standing, now: float) -> tuple[str, ...]:
    there = f"{one.is_there}, {one.candidate}" if one.candidate else one.is_there
    digest = "-" if one.digest is None else short(one.digest)
    return (one.model, one.stage, age(one.adapter, now), digest, one.host, there, one.tests)
