"""`doit history MODEL`: the versions that were used, and where each is now."""

from __future__ import annotations

import json as to_json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.one_model import HOST, one_model, tests_of
from ollamake.graph import LATEST
from ollamake.ollama.address import versions_of
from ollamake.spelling import counted
from ollamake.state.versions import Version, history, short

if TYPE_CHECKING:
    from ollamake.graph import Step
    from ollamake.sights import Sights


class HistoryCommand(Look):
    """List the versions of a model."""

    name = "history"
    doc_purpose = "list the versions of a model that were used: when, from which records, and where each is now"
    doc_usage = "MODEL"
    doc_description = "The youngest first. Each was promoted, or rolled back to; `doit rollback MODEL --to DIGEST` uses one that is there still."
    cmd_options = (AS_JSON, HOST)

    def _execute(self, *, json: bool, host: str, pos_args: Sequence[str]) -> int:
        if len(pos_args) != 1:
            msg = "usage: doit history MODEL"
            raise InvalidCommand(msg)
        run, steps, name = one_model(pos_args[0])
        facts = [_facts(run.sights, step) for step in tests_of(run, steps, name, host)]
        if json:
            self.outstream.write(to_json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        else:
            self.outstream.writelines(f"{line}\n" for one in facts for line in _as_text(name, one))
        return 0


def _facts(sights: Sights, step: Step) -> dict[str, Any]:
    """What is known of the model on one server."""
    host, known = sights.host(step), sights.known(step)
    tags = None if known is None else versions_of(known, step.name)
    versions = [_as_json(version, tags) for version in reversed(history(host.file_name, step.name))]
    made_elsewhere = None if tags is None or tags.get(LATEST) in {None, *(version["digest"] for version in versions)} else tags[LATEST]
    return {"host": host.name, "answers": known is not None, "versions": versions, "latest made elsewhere": made_elsewhere}


def _as_json(version: Version, tags: Mapping[str, str] | None) -> dict[str, Any]:
    facts = {name: getattr(version, name) for name in Version.__dataclass_fields__}
    there = None if tags is None else sorted((tag for tag, digest in tags.items() if digest == version.digest), key=lambda tag: (tag != LATEST, tag))
    return {**facts, "tags": there}  # None: the server does not answer


def _as_text(name: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"{name} on {facts['host']}{'' if facts['answers'] else ', which does not answer'}"
    if facts["latest made elsewhere"] is not None:
        yield f"    latest is {short(facts['latest made elsewhere'])}, which was not made here"
    rows = [_row(version) for version in facts["versions"]]
    if not rows:
        yield "    no version of it was used, as far as is known here"
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "    " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(version: Mapping[str, Any]) -> tuple[str, ...]:
    provenance = version["provenance"]
    tags = version["tags"]
    data = ", ".join(f"{dataset['name']} {counted(dataset.get('records', 0), 'record')}" for dataset in provenance.get("data", ()))
    said = [
        version["how"],
        f"in place of {short(version['replaced'])}" if version["replaced"] else "",
        version["because"],
        version["tests"],
        data,
        "adapter from the cache" if "cache" in provenance else "",
        f"trained on {provenance['where']}" if "where" in provenance else "",
        f"commit {version['commit'][:8]}{'+' if version['commit'].endswith('+') else ''}" if version["commit"] else "",
    ]
    where = "?" if tags is None else ", ".join(tags) or "gone"
    return f"{version['at'][:10]} {version['at'][11:16]} UTC", short(version["digest"]), where, "; ".join(filter(None, said))
