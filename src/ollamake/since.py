"""What an edit since a commit changes: the steps as they were and as they are, compared by git and the lock. Needs no data, no weights, no server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ollamake import freshness
from ollamake.catalog import Catalog, Model
from ollamake.digest import digest_value
from ollamake.errors import BuildError, Mark
from ollamake.freshness import Reason, Record, Sight
from ollamake.git import clone_here
from ollamake.graph import Step
from ollamake.past import Loaded, Snapshot, blocks_at, catalogs_of, snapshot
from ollamake.plan import Planned, planned
from ollamake.sights import Sights

LOCKED = "by the lock"  # the identity of a file that is not in git
NOWHERE = Mark("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is different in a catalog."""

    plans: tuple[Planned, ...]  # steps that an edit changes or may change
    models: Mapping[str, Model]  # that there are now
    added: Mapping[str, str | None]  # models that are new -> the name that they had before, where they had one
    gone: tuple[str, ...]  # models that there are no more, under any name

    @property
    def by_model(self) -> dict[str, list[Planned]]:
        """The steps of each model that has any, with those of the datasets that it reads."""
        validated = {plan.step.name: plan for plan in self.plans if plan.step.stage == "validate"}
        found = {name: [validated[dataset.name] for dataset in model.data if dataset.name in validated] for name, model in self.models.items()}
        for plan in self.plans:
            if plan.step.stage != "validate":
                found[plan.step.name].append(plan)
        return {name: plans for name, plans in found.items() if plans}


def common_commit(rev: str) -> str:
    """The last commit that this one and HEAD have in common, from which on edits count. Raises BuildError."""
    return clone_here().common_commit(rev)


def differences(commit: str, catalogs: Sequence[tuple[Sights, tuple[Step, ...]]]) -> list[Difference]:
    """What is different in each catalog since this commit; files that are not committed count. Raises BuildError and OSError."""
    clone = clone_here()
    files = clone.files_at(commit)
    now = clone.files_now(commit, files)
    database = catalogs[0][0].database
    lock = clone.path(database.name)
    text = clone.contents([files[lock]])[files[lock]] if lock in files else None
    before = snapshot(clone, files, blocks_at(text, lock), is_now=False)
    after = snapshot(clone, now, database.memory.blocks, is_now=True)
    paths = [sights.catalog.path for sights, _ in catalogs]
    then = catalogs_of(before, now, paths)
    loaded = [Loaded(catalog=sights.catalog, steps=steps, fault="") for sights, steps in catalogs]
    if not all(os.path.lexists(clone.root / path) for path in (*now, *after.beside_git)):  # a pattern of files would not come to these
        loaded = catalogs_of(after, now, paths)
        for known in loaded:
            if known.fault:
                raise BuildError(known.fault)
    return [
        Since(sights, commit=commit[:8], before=before, after=after, then=old, now=new).difference()
        for (sights, _), old, new in zip(catalogs, then, loaded, strict=True)
    ]


class Since:
    """Of one catalog: what the plan asks, where a commit takes the place of the last build."""

    def __init__(self, sights: Sights, *, commit: str, before: Snapshot, after: Snapshot, then: Loaded, now: Loaded) -> None:
        self.sights = sights
        self.commit = commit
        self.before = before
        self.after = after
        self.then = then
        self.now = now
        self.steps_then = {step.id: step for step in then.steps}
        self.unproven: set[str] = set()  # targets of which nobody knows what they will be

    def difference(self) -> Difference:
        """What is different."""
        models, old = _models(self.now.catalog), _models(self.then.catalog)
        gone = {_content(model): name for name, model in old.items() if name not in models}
        added = {name: gone.get(_content(model)) for name, model in models.items() if name not in old}
        return Difference(
            plans=planned(self.now.steps, self),
            models=models,
            added=added,
            gone=tuple(name for name in old if name not in models and name not in added.values()),
        )

    def remembered(self, step: Step) -> Record | None:
        """The step as it was at the commit."""
        old = self.steps_then.get(step.id)
        if old is None:
            return None
        inputs = {name: self.before.id(path) or LOCKED for name, path in old.named_reads.items()}
        return Record(inputs=inputs, keys=digest_value(old.keys), targets={}, versions={})

    def sight(self, step: Step, record: Record | None) -> Sight:
        """The step as it is now."""
        before = record.inputs if record else {}
        return Sight(inputs={name: self._identity(name, path, before.get(name)) for name, path in step.named_reads.items()}, keys=step.keys)

    def _identity(self, name: str, path: str, before: str | None) -> str | None:
        """What is another than `before` where the file is; what can't be compared is taken for the same, and None says that it is gone."""
        now = self.after.id(path)
        if before is None:
            return now or LOCKED
        if before != LOCKED:
            return now
        known = self.before.locked.get(name)
        news = self.after.locked.get(name, set()) - known if known and now is None else ()
        return min(news, default=LOCKED)

    def brought(self, step: Step, now: Sight) -> bool:  # noqa: ARG002 - the plan's
        """Adapters are not looked at."""
        return False

    def keys_before(self, step: Step) -> Mapping[str, Any]:
        """What the catalog said at the commit."""
        return self.steps_then[step.id].keys

    def explained(self, step: Step, why: Iterable[Reason]) -> tuple[Reason, ...]:
        """The reasons, with the places in the catalog behind them."""
        return tuple(self._explained(step, reason) for reason in why)

    def _explained(self, step: Step, reason: Reason) -> Reason:
        if reason.kind == "never built":
            kind = "faulty then" if self.then.fault else "added"
            return Reason(kind=kind, what=self.then.fault, new=self.commit)
        if reason.kind == "key" and self.now.catalog is not None:
            return replace(reason, mark=self.now.catalog.mark_of(step.name, reason.what))
        return reason

    def outcome(self, step: Step) -> Mapping[str, str] | None:
        """What a validation or conversion made, where the locks of then and now say that it was done then and now: the text may be the same."""
        block = self.after.blocks.get(step.id) if step.stage in {"validate", "convert"} else None
        if block is None or not self._was_done(step, self.after) or not self._was_done(self.steps_then.get(step.id), self.before):
            self.unproven.update(step.writes)
            return None
        then = self.before.blocks[step.id]["targets"]
        return {path: LOCKED if then.get(path) == digest else digest for path, digest in block["targets"].items()}

    def _was_done(self, step: Step | None, snapshot: Snapshot) -> bool:
        """Does the lock say that the step was done from what was there at that time?"""
        if step is None or step.id not in snapshot.blocks or self.unproven.intersection(step.reads):
            return False
        same = {path for path in step.reads if self.before.id(path) == self.after.id(path) is not None}  # and mostly known already
        inputs = {name: (self.after if path in same else snapshot).digest(name, path) for name, path in step.named_reads.items()}
        return not freshness.reasons(Record.of(snapshot.blocks[step.id]), Sight(inputs=inputs, keys=self.sights.keys(step)))

    def seconds(self, step: Step) -> float | None:  # noqa: ARG002 - the plan's
        """Times are not asked for."""
        return None


def _models(catalog: Catalog | None) -> dict[str, Model]:
    return {model.name: model for model in catalog.models} if catalog else {}


def _content(model: Model) -> str:
    """What a model is beside its name and place."""
    base = replace(model.base, mark=NOWHERE)
    portions = tuple(replace(portion, dataset=replace(portion.dataset, mark=NOWHERE)) for portion in model.portions)
    return repr(replace(model, name="", mark=NOWHERE, base=base, portions=portions))
