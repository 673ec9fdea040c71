"""A candidate in Ollama -> the model that is used, if it answers as its tests want it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.gate.junit import junit
from ollamake.gate.report import Report
from ollamake.gate.told import summary, told
from ollamake.graph import BUILD, LATEST, PREVIOUS, Step
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.names import named_lock
from ollamake.progress import AskingProgress
from ollamake.say import say
from ollamake.stages.asking import base_on
from ollamake.stages.examine import examine
from ollamake.stages.promotion import promote, tag_of, tags_on
from ollamake.state.files import write_whole
from ollamake.state.receipts import moment
from ollamake.state.versions import Version, history, note_version, report_path, report_with


def test(
    step: Step, model: Model, server: OllamaServer, digest: str, *, keep: int, provenance: Mapping[str, Any], commit: str | None
) -> dict[str, Any]:
    """Ask the candidate, which has this digest; give it the name where it passes. Raises BuildError with what fails.

    `keep`: how many versions before it stay on the server. `provenance`, `commit`: what the history keeps of where it comes from.
    """
    with named_lock(server.address, model.name):  # nobody else's candidate, nor base, takes the place of ours meanwhile
        return _test(step, model, server, digest, keep, provenance, commit)


def _test(  # noqa: PLR0917 - as it is called above
    step: Step, model: Model, server: OllamaServer, digest: str, keep: int, provenance: Mapping[str, Any], commit: str | None
) -> dict[str, Any]:
    place = server.address.file_name
    tags = tags_on(server, model.name)
    tag = tag_of(tags, digest)
    if tag is None:
        msg = f"the candidate of {model.name} is gone from {server.address}"
        raise BuildError(msg, fix="run `doit` again: it is registered anew")
    other = LATEST if tags.get(LATEST) not in {None, digest} else PREVIOUS
    before = report_with(place, model.name, tags.get(other))
    previous = f"{model.name}:{other}" if tags.get(other) not in {None, digest} else None
    with base_on(server, model) as base, AskingProgress(model.name) as progress:
        report = examine(model, f"{model.name}:{tag}", server, base, before=before, previous=previous, tell=progress.show)
    _write_reports(step, report, place)
    if not report.passed:
        stays = f"{model.name} on {server.address} stays what it is" if LATEST in tags else f"no {model.name} is on {server.address}"
        msg = f'{told(report, before)}\n  {stays}; to look at the one that failed: doit ask {model.name}:{tag} "QUESTION"'
        raise BuildError(msg, fix="mend the data, the recipe or the test, then run `doit` again")
    for line in told(report, before).splitlines()[1:]:
        say(f"   {line.strip()}")
    replaced = promote(server, model.name, digest, keep=keep)
    known = history(place, model.name)
    if not known or known[-1].digest != digest or replaced not in {None, digest}:
        note_version(
            place,
            model.name,
            Version(digest=digest, how="promoted", at=moment(), replaced=replaced, tests=summary(report), commit=commit, provenance=dict(provenance)),
        )
    counts = {"passed": len(report.results) - len(report.failures), "failed": len(report.failures)}
    return {"name": f"{model.name}:{LATEST}", "digest": digest, "tests": counts, "replaced": replaced, "version": server.version()}


def _write_reports(step: Step, report: Report, place: str) -> None:
    """For people's programs, in build/; and for the comparison with the next version, with what is remembered of the server."""
    text = json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n"
    folder = Path(BUILD, step.name)
    folder.mkdir(parents=True, exist_ok=True)
    end = "" if step.host is None else f"@{place}"
    write_whole(folder / f"tests{end}.json", text)
    write_whole(folder / f"tests{end}.xml", junit([report]))
    write_whole(report_path(place, step.name, report.digest), text)
