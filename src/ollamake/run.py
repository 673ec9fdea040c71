"""One run of doit over a catalog: whether a step is fresh, and doing it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from doit.exceptions import TaskFailed

from ollamake import freshness
from ollamake.cache.shared import SharedCache, shared_cache
from ollamake.call import current
from ollamake.catalog import Model
from ollamake.digest import digest_value
from ollamake.drift import refused_by_policy, refused_mixture
from ollamake.errors import AdaptersRefusedError, BuildError, GoneError, Mark, WithdrawnError, with_fix
from ollamake.events import begins
from ollamake.freshness import Reason, Record
from ollamake.graph import ON_A_SERVER, Step
from ollamake.moments import moment
from ollamake.ollama import server as servers
from ollamake.ollama.address import Address
from ollamake.sights import Sights, made_files
from ollamake.state.backend import OURS
from ollamake.state.commit import commit_here
from ollamake.state.digests import digest_cache, digest_if_there, file_digest
from ollamake.state.files import remedy
from ollamake.state.receipts import ACCEPTED, BEFORE, READ, Receipt, Sealed, read_receipt, receipt_path, write_receipt

if TYPE_CHECKING:
    from ollamake.stages.test import Candidate

WHY, ADOPTED = "reasons", "adopted"  # what a doit task carries from `uptodate` to its action, which may run in another process


class Withdrawn(TaskFailed):  # type: ignore[misc]  # doit has no types
    """A step was not done, though nothing is wrong with it."""


class Run:
    """What the steps of a run share."""

    def __init__(self, sights: Sights, steps: Sequence[Step] = ()) -> None:
        self.sights = sights
        self.steps = steps
        others = (run.cache for run, _ in current().catalogs.values())
        self.cache: SharedCache | None = shared_cache(sights.catalog.cache, others)  # made now, to be one for all processes of the run
        self.uses: dict[Address, servers.Use] = {}
        self._users = 0  # steps that talk to a server now
        self._guard = threading.Lock()  # doit may run steps in threads

    @cached_property
    def commit(self) -> str | None:
        """The repo's commit, with `+` behind it where tracked files differ from it; None where there is none."""
        return commit_here()

    def is_fresh(self, task: Any, step: Step) -> bool:
        """For doit's `uptodate`, which passes the task."""
        task.meta[WHY], task.meta[ADOPTED] = (Reason(kind="unseen"),), None
        try:
            reasons = self.sights.reasons(step, self.sights.remembered(step))
            if reasons and step.stage == "train" and not current().always:
                task.meta[ADOPTED] = self.sights.brought(step)
        except (BuildError, OSError):  # the step itself says it, when it runs
            return False
        task.meta[WHY] = reasons
        return not reasons

    def do(self, step: Step, task: Any) -> TaskFailed | dict[str, Any]:
        """Do the step and return what doit's database shall keep of it; a BuildError becomes doit's failure, without a traceback."""
        adopted: Receipt | None = task.meta.get(ADOPTED)
        try:
            if adopted is not None and refused_by_policy(self.sights, step, self.steps) is None:
                from ollamake.stages.cached import taken_up

                taken_up(step, adopted, cache=self.cache, pinned=self.sights.pinned(step))
                return self.told(step, adopted, fresh=True)
            from ollamake.stages.missing import require_files

            require_files(step)
            refusal = refused_by_policy(self.sights, step, self.steps) or refused_mixture(self.sights, step)
            if refusal is not None:
                raise refusal
            reasons: tuple[Reason, ...] = task.meta.get(WHY, ())
            begins(step.id, list(map(str, reasons)) or ["asked for"])
            try:
                return self.told(step, self.done(step, reasons))
            except (AdaptersRefusedError, GoneError) as error:
                from ollamake.fallback import done_otherwise

                return done_otherwise(self, step, reasons, error)
        except WithdrawnError as error:
            return Withdrawn(str(error))
        except BuildError as error:
            return TaskFailed(str(error))
        except OSError as error:  # a full disk, a file that may not be read
            where = error.filename2 or error.filename or step.id
            return TaskFailed(with_fix(f"{where}: {error.strerror or error}", f"{remedy(error)}, then run `doit` again"))

    def done(self, step: Step, reasons: tuple[Reason, ...]) -> Receipt:
        """Do the step and leave its receipt. Raises BuildError and OSError."""
        from ollamake.foresight import explained

        why = [reason.text for reason in explained(self.sights, step, reasons)]  # before the index of the records is written anew
        if step.stage == "train":
            return self.train(step, why, () if current().always else reasons)
        sealed = self.begun(step, why)
        outcome = self.stage(step, reasons)
        targets = {outcome["name"]: outcome["digest"]} if step.stage in ON_A_SERVER else {path: file_digest(path) for path in made_files(step)}
        receipt = sealed(targets, outcome)
        write_receipt(self.sights.receipt_path(step), receipt)
        return receipt

    def begun(self, step: Step, why: list[str]) -> Sealed:
        """A step begins: what it will read is digested now. Returns what makes its receipt when it has ended."""
        begun, commit, files = time.monotonic(), self.commit, step.named_reads
        inputs = {**{name: file_digest(path) for name, path in files.items()}, **self.sights.made_before(step, now=True)}
        keys, versions = self.sights.keys(step), self.sights.versions(step)

        def sealed(targets: Mapping[str, str], outcome: Mapping[str, Any]) -> Receipt:
            # What the stage has held in its hands, where it says so; and what is there now.
            read = {name: outcome.get(READ, {}).get(path, inputs[name]) for name, path in files.items()}
            edited = [name for name, path in files.items() if not inputs[name] == read[name] == digest_if_there(path)]
            return Receipt(
                record=Record(
                    inputs=inputs,
                    keys=digest_value(keys),
                    targets=dict(targets),
                    versions=versions,
                    edited=tuple(edited),
                    accepted=outcome.get(ACCEPTED),
                ),
                keys=keys,
                outcome={what: value for what, value in outcome.items() if what not in {READ, BEFORE, ACCEPTED}},
                reasons=why,
                seconds=round(time.monotonic() - begun + outcome.get(BEFORE, 0.0), 3),
                finished=moment(),
                commit=commit,
            )

        return sealed

    def told(self, step: Step, receipt: Receipt, *, fresh: bool = False) -> dict[str, Any]:
        """The values of a doit task that was done."""
        from_cache = {} if fresh or "cache" not in receipt.outcome or step.stage != "train" else {"from cache": receipt.seconds}
        known = {
            **from_cache,
            "step": step.record_id,
            "block": receipt.record.as_json(),
            "place": self.sights.place(step),
            "learnt": digest_cache().news(),
        }
        return {OURS: {**known, "fresh": fresh}}

    def train(self, step: Step, why: list[str], reasons: tuple[Reason, ...]) -> Receipt:
        """Train; the receipt goes into the adapter's folder before that is put in its place. Without reasons, even where that is there already."""
        from ollamake.stages.cached import trained

        assert isinstance(step.subject, Model)
        model, catalog, cache, pinned = step.subject, self.sights.catalog, self.cache, self.sights.pinned(step)
        begin = partial(self.begun, step, why)

        def is_current(receipt: Receipt) -> bool:
            return bool(reasons) and not freshness.reasons(receipt.record, self.sights.sight(step, None))

        def mark_of(key: str) -> Mark:
            return catalog.mark_of(model.name, key) or model.mark

        return trained(step, model, begin, is_current, mark_of, cache=cache, pinned=pinned, reasons=reasons, sinks=catalog.sinks)

    def stage(self, step: Step, reasons: tuple[Reason, ...]) -> dict[str, Any]:
        """Do what a step other than train is for. Imported here: a run without work imports none of it."""
        if step.stage == "validate":
            from ollamake.stages.validate import validate

            return validate(step)
        model = step.subject
        assert isinstance(model, Model)
        if step.stage == "fetch":
            from ollamake.hub.source import fetch

            return fetch(step, model)
        if step.stage == "convert":
            from ollamake.stages.convert import convert

            return convert(step, model)
        if step.stage == "package":
            from ollamake.stages.package import package
            from ollamake.stages.packed import Packed

            return package(step, model, self.sights.kind(step), Packed(self.cache, step, self.sights.keys(step)))
        return self.on_a_server(step, model, reasons)

    def on_a_server(self, step: Step, model: Model, reasons: tuple[Reason, ...]) -> dict[str, Any]:
        """Do a step whose target is a server."""
        from ollamake.ollama.client import OllamaServer
        from ollamake.stages.register import register
        from ollamake.stages.telling import tests_told
        from ollamake.stages.test import test

        host = self.sights.host(step)
        with self._guard:
            self._users += 1
            if host.address not in self.uses:
                self.uses[host.address] = host.use()
        try:
            with OllamaServer(host.address) as server:
                if step.stage == "register":
                    return {**register(step, model, server), "host": host.name}
                candidate = self.candidate(step, reasons)
                with tests_told(self.sights.catalog.sinks, model, host.file_name, candidate.digest):
                    return test(step, model, server, candidate)
        finally:
            with self._guard:
                self._users -= 1

    def candidate(self, step: Step, reasons: tuple[Reason, ...]) -> Candidate:
        """What a test step asks. Raises BuildError where nothing is known of it."""
        from ollamake.stages.test import Candidate

        made = self.sights.made_before(step, now=True)
        if not made:
            msg = f"no candidate of {step.name} is known on {self.sights.host(step).name}"
            raise BuildError(msg, fix=f"`doit {step.id}` makes one")
        ((name, digest),) = made.items()
        registered = read_receipt(self.sights.receipt_path(replace(step, stage="register")))
        packaged = read_receipt(receipt_path(next(one for one in self.steps if one.stage == "package" and one.name == step.name), ""))
        return Candidate(
            digest=digest,
            is_the_only_news=bool(reasons) and all(reason.kind == "input changed" and reason.what == name for reason in reasons),
            keep=self.sights.catalog.kept_versions,
            origin=digest_value({"from": dict(packaged.record.inputs), "served": registered.record.keys}) if packaged and registered else "",
            provenance=registered.outcome.get("provenance", {}) if registered else {},
            commit=self.commit,
        )

    def end_servers(self) -> None:
        """Let go of the servers that steps had and none has now; end those that a process of this run had and was ended."""
        with self._guard:
            for host in self.sights.hosts:
                if host.address not in self.uses:
                    servers.end_unused(host.address)
                elif not self._users:
                    self.uses.pop(host.address).end()
