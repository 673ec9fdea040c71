"""A candidate in Ollama -> the model that is used, if it answers as its tests want it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.gate.junit import junit
from ollamake.gate.report import Report
from ollamake.gate.told import summary, told
from ollamake.graph import BUILD, LATEST, PREVIOUS, Step
from ollamake.moments import moment
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.names import named_lock
from ollamake.progress import AskingProgress
from ollamake.say import say
from ollamake.stages.asking import base_on
from ollamake.stages.examine import examine
from ollamake.stages.promotion import promote, tag_of, tags_on
from ollamake.state.files import write_whole
from ollamake.state.receipts import ACCEPTED
from ollamake.state.versions import ROLLED_BACK, Version, history, note_version, report_path, report_with, short


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that was made to be tested."""

    digest: str  # on the server
    is_the_only_news: bool  # is it tested for no other reason than that it was made anew?
    keep: int  # versions before it that stay on the server
    origin: str  # digest of what it was packaged from and how it is served; empty: not known
    provenance: Mapping[str, Any]  # of its adapter: trainer, recipe, data
    commit: str | None  # of the repo


def test(step: Step, model: Model, server: OllamaServer, candidate: Candidate) -> dict[str, Any]:
    """Ask the candidate; give it the name where it passes. Raises BuildError with what fails.

    One that was rolled back from is left alone, as long as nothing but its form has changed: another version of a server wants it otherwise.
    """
    with named_lock(server.address, model.name):  # nobody else's candidate, nor base, takes the place of ours meanwhile
        return _left(model, server, candidate) or _test(step, model, server, candidate)


def _left(model: Model, server: OllamaServer, candidate: Candidate) -> dict[str, Any] | None:
    """What stays, where the candidate is what was rolled back from; else None."""
    place = server.address.file_name
    known = history(place, model.name)
    if not candidate.is_the_only_news or not candidate.origin or not known or known[-1].how != ROLLED_BACK:
        return None
    left = next((version for version in reversed(known) if version.digest == known[-1].replaced and version.how != ROLLED_BACK), None)
    latest = tags_on(server, model.name).get(LATEST)
    if left is None or left.origin != candidate.origin or latest != known[-1].digest:
        return None
    said = f"{short(left.digest)} was rolled back from on {known[-1].at[:10]}: it is not promoted again in another form"
    say(f"   {model.name}: {said}")
    return {"name": f"{model.name}:{LATEST}", "digest": latest, "tests": {"passed": 0, "failed": 0}, "version": server.version(), ACCEPTED: said}


def _test(step: Step, model: Model, server: OllamaServer, candidate: Candidate) -> dict[str, Any]:
    digest = candidate.digest
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
    replaced = promote(server, model.name, digest, keep=candidate.keep)
    known = history(place, model.name)
    if replaced == digest and known and known[-1].digest != digest:  # it was given the name by a build that was killed before it had noted it
        replaced = known[-1].digest
    if not known or known[-1].digest != digest or replaced not in {None, digest}:
        note_version(
            place,
            model.name,
            Version(
                digest=digest,
                how="promoted",
                at=moment(),
                replaced=replaced,
                tests=summary(report),
                origin=candidate.origin,
                commit=candidate.commit,
                provenance=dict(candidate.provenance),
            ),
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
