"""Back to a version that a server has kept: it changes places with the latest, and what is remembered of the test step says so."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

from ollamake.digest import digest_value
from ollamake.errors import BuildError
from ollamake.freshness import Record, Sight
from ollamake.gate.told import summary
from ollamake.graph import CANDIDATE, LATEST, PREVIOUS, VERSIONS, Step
from ollamake.moments import moment
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.names import named_lock
from ollamake.stages.kept import Kept, kept_on
from ollamake.stages.promotion import BASE, exchange, is_ours, promote, tags_on
from ollamake.state.receipts import Receipt
from ollamake.state.versions import Version, history, note_version, report_with, short


def target_of(server: OllamaServer, name: str, place: str, said: str) -> tuple[Kept, str | None]:
    """The version that is meant, and the digest of the latest one. Raises BuildError where the name may not be given to it."""
    found = kept_on(server, name, place, said)
    if found.tag in {CANDIDATE, BASE}:
        what = "has not passed its tests" if found.tag == CANDIDATE else "is the base alone, and there for a test"
        msg = f"{name}:{found.tag} {what}"
        raise BuildError(msg, fix=f"name a version that was used: `doit history {name}` shows them")
    known = {version.digest for version in history(place, name)}
    if known and found.digest not in known:
        msg = f"{name}:{found.tag} was not made here: it has never passed the tests"
        raise BuildError(
            msg,
            fix=f"name a version that was used: `doit history {name}` shows them; or give it the name by hand: ollama cp {name}:{found.tag} {name}",
        )
    return found, tags_on(server, name).get(LATEST)


def roll_back(server: OllamaServer, name: str, to: Kept, latest: str | None, *, keep: int, remembered: AbstractContextManager[None]) -> str:
    """Give the name to this version; the latest one takes the place that it had. Returns the tag of that. Raises BuildError, also where another has changed them.

    `latest`: the digest that has the name. `remembered`: while this is on, what is remembered of the test step says so already: where we are killed
    after the name was given, the next build does not take it back.
    """
    with named_lock(server.address, name):
        tags = tags_on(server, name)
        if (tags.get(to.tag), tags.get(LATEST)) != (to.digest, latest):
            msg = f"the versions of {name} on {server.address} were changed by another build just now"
            raise BuildError(msg, fix=f"look at them with `doit history {name}`, then run `doit rollback` again")
        with remembered:
            if is_ours(to.tag) and latest is not None:
                return exchange(server, name, to.tag)
            promote(server, name, to.digest, keep=keep)  # a tag of somebody's own stays what it is
            return PREVIOUS


def told(to: Kept, before: str | None, because: str) -> str:
    """What is remembered of it: why the latest is not the one that was tested last."""
    reason = f": {because}" if because else ""
    since = "" if before is None else f" from {short(before)}"
    return f"rolled back{since} to {short(to.digest)} on {moment()[:10]}{reason}"


def note(name: str, place: str, to: Kept, before: str | None, because: str) -> None:
    """Note it in the model's history."""
    known = next((version for version in reversed(history(place, name)) if version.digest == to.digest), None)
    report = report_with(place, name, to.digest)
    tests = summary(report) if report else known.tests if known else ""
    version = Version(digest=to.digest, how="rolled back", at=moment(), replaced=before, tests=tests, commit=known.commit if known else None)
    note_version(place, name, replace(version, provenance=known.provenance if known else {}, because=because))


def rolled_back(step: Step, record: Record | None, now: Sight, receipt: Receipt | None, *, to: Kept, said: str, place: str) -> Receipt | None:
    """The receipt of a test step after its model was rolled back; None where nothing tells what it would be held against.

    What it was tested from stays as it was: the step is fresh until that changes, so the version that was left is not given the name again.
    `record`, `receipt`: those of before, where there are any; `now`: the step as it is, for where there are none.
    """
    target = {f"{step.name}:{LATEST}": to.digest}
    if record is None:
        inputs = {name: digest for name, digest in now.inputs.items() if digest is not None}
        if len(inputs) < len(now.inputs) or not inputs.keys() >= set(step.named_after.values()):
            return None
        record = Record(inputs=inputs, keys=digest_value(now.keys), targets=target, versions={step.stage: VERSIONS[step.stage]})
    report = report_with(place, step.name, to.digest)
    counts = {"passed": len(report.results) - len(report.failures), "failed": len(report.failures)} if report else {}
    return Receipt(
        record=replace(record, targets=target, accepted=said),
        keys=receipt.keys if receipt else dict(now.keys),
        outcome={"name": f"{step.name}:{LATEST}", "digest": to.digest, "tests": counts},
        reasons=[said],
        seconds=receipt.seconds if receipt else 0.0,
        finished=moment(),
        commit=receipt.commit if receipt else None,
    )
