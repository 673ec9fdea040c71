"""What an edit since a commit changes: the steps as they were and as they are, compared by git and the lock. Needs no data, no weights, no server."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from ollamake import freshness
from ollamake.catalog import Catalog, Model
from ollamake.catalog.expanded import written
from ollamake.catalog.tests import said_tests
from ollamake.digest import digest_value
from ollamake.errors import BuildError, Mark
from ollamake.freshness import Reason, Record, Sight
from ollamake.git import clone_here
from ollamake.graph import Step
from ollamake.past import Loaded, Snapshot, blocks_at, catalogs_of, refuse_closed, snapshot, taken_for_there
from ollamake.plan import Planned, by_model, planned
from ollamake.sights import Sights
from ollamake.state.digests import file_digest

LOCKED = "by the lock"  # the identity of a file that is not in git
ELSEWHERE = "elsewhere"  # that of one of which nobody knows more than that a link leads to another place
SHOWN = 5  # names in a note
NOWHERE = Mark("", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What is different in a catalog."""

    plans: tuple[Planned, ...]  # steps that an edit changes or may change
    models: Mapping[str, Model]  # that there are now
    added: Mapping[str, str | None]  # models that are new -> the name that they had before, where they had one
    gone: tuple[str, ...]  # models that there are no more, under any name
    notes: tuple[str, ...]  # what a reader has to know beside that

    @property
    def by_model(self) -> dict[str, list[Planned]]:
        """The steps of each model that has any, with those of the datasets that it reads."""
        return by_model(self.plans, self.models)


def common_commit(rev: str) -> str:
    """The last commit that this one and HEAD have in common, from which on edits count. Raises BuildError."""
    return clone_here().common_commit(rev)


def differences(commit: str, catalogs: Sequence[tuple[Sights, tuple[Step, ...]]]) -> list[Difference]:
    """What is different in each catalog since this commit; files that are not committed count. Raises BuildError and OSError."""
    clone = clone_here()
    tree = clone.tree_at(commit)
    now = clone.tree_now(commit, tree)
    database = catalogs[0][0].database
    lock = clone.path(database.name)
    text = clone.contents([tree.files[lock]])[tree.files[lock]] if lock in tree.files else None
    before = snapshot(tree, blocks_at(text, lock), is_now=False)
    after = snapshot(now, database.memory.blocks, is_now=True)
    loaded = _loaded_now(catalogs, before, after)
    beside = {path for known in loaded for path in taken_for_there(known.catalog, before, after)}
    paths = [sights.catalog.path for sights, _ in catalogs]
    then = catalogs_of(before, now, paths, before.beside_git() | beside)
    for known in chain(loaded, then):
        refuse_closed(known.catalog, before, after)
    return [
        Since(sights, commit=commit[:8], before=before, after=after, then=old, now=new).difference()
        for (sights, _), old, new in zip(catalogs, then, loaded, strict=True)
    ]


def _loaded_now(catalogs: Sequence[tuple[Sights, tuple[Step, ...]]], before: Snapshot, after: Snapshot) -> list[Loaded]:
    """The catalogs as they are now, where a pattern comes to files that are in git, or known to the lock, though they are not here."""
    tree = after.tree
    beside = after.beside_git() | before.beside_git(but=after.blocks)
    if all(os.path.lexists(tree.clone.root / path) for path in (*tree.files, *tree.links, *beside)):
        return [Loaded(catalog=sights.catalog, steps=steps, fault="") for sights, steps in catalogs]
    here = {path for sights, _ in catalogs for dataset in sights.catalog.datasets for path in dataset.files if os.path.isfile(path)}
    here.update(path for sights, _ in catalogs for path in sights.catalog.digests)
    beside |= {after.place(path) for path in here if after.id(path) is None}
    loaded = catalogs_of(after, tree, [sights.catalog.path for sights, _ in catalogs], beside)
    for known in loaded:
        if known.fault:
            raise BuildError(known.fault)
    return loaded


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
        self.made = {path for step in (*then.steps, *now.steps) for path in step.writes}
        self.unseen: set[str] = set()  # inputs of which nobody knows whether they are the same

    def difference(self) -> Difference:
        """What is different."""
        models, old = _models(self.now.catalog), _models(self.then.catalog)
        gone: dict[str, list[str]] = {}
        for name in old.keys() - models.keys():
            gone.setdefault(_content(old[name]), []).append(name)
        added: dict[str, str | None] = {}
        for name in (name for name in models if name not in old):
            same = sorted(gone.get(_content(models[name]), ()))
            added[name] = same[0] if same else None
            if same:
                gone[_content(models[name])].remove(same[0])
        plans = planned(self.now.steps, self)
        return Difference(
            plans=plans,
            models=models,
            added=added,
            gone=tuple(name for name in old if name not in models and name not in added.values()),
            notes=tuple(self._notes()),
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
        if before == LOCKED and now is None:
            return self._by_the_locks(name, path)
        return now if before != LOCKED and now is not None else self._crossed(name, path, before)

    def _by_the_locks(self, name: str, path: str) -> str:
        """The same of a file that is not in git, neither then nor now."""
        known, news = self.before.locked.get(name), self.after.locked.get(name)
        if known and news:
            return min(news - known, default=LOCKED)
        if self.before.place(path) != self.after.place(path):
            return ELSEWHERE
        if path not in self.made:
            self.unseen.add(name)
        return LOCKED

    def _crossed(self, name: str, path: str, before: str) -> str | None:
        """The same of a file that came into git or left it: by its content, and where nobody knows that, it is another."""
        now = self.after.id(path)
        if now is None and not os.path.isfile(path):
            return None
        old, new = self.before.digest(name, path), self._digest_now(name, path)
        return before if old is not None and old == new else now or new

    def _digest_now(self, name: str, path: str) -> str | None:
        """The digest of a file; of one that has left git, and that the lock may know as it was in git, by its content."""
        has_left = self.after.id(path) is None and self.before.id(path) is not None and os.path.isfile(path)
        return file_digest(path) if has_left else self.after.digest(name, path)

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

    def refusal(self, step: Step, why: Collection[Reason], *, anew: bool, lacking: bool) -> None:
        """What a policy refuses, a build says."""

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
        is_now = snapshot is self.after
        inputs = {
            name: self._digest_now(name, path) if is_now or path in same else snapshot.digest(name, path) for name, path in step.named_reads.items()
        }
        return not freshness.reasons(Record.of(snapshot.blocks[step.id]), Sight(inputs=inputs, keys=self.sights.keys(step)))

    def _notes(self) -> Iterable[str]:
        path = self.sights.catalog.path
        if self.then.catalog is None and not self.then.fault:
            yield f"{path} was not there at {self.commit}: all of its models are new"
            return
        catalogs = self.now.catalog.digests if self.now.catalog else ()
        names = sorted(self.unseen.union(written(path) for path in catalogs if self.before.id(path) is None and self.after.id(path) is None))
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"neither git nor the lock of both sides has these, and they are taken for the same: {', '.join(names[:SHOWN])}{more}"

    def seconds(self, step: Step) -> float | None:  # noqa: ARG002 - the plan's
        """Times are not asked for."""
        return None

    def shared(self, step: Step, coming: Mapping[str, str]) -> str | None:  # noqa: ARG002 - the plan's
        """Nor is a cache."""
        return None


def _models(catalog: Catalog | None) -> dict[str, Model]:
    return {model.name: model for model in catalog.models} if catalog else {}


def _content(model: Model) -> str:
    """What a model is beside its name and place."""
    base = replace(model.base, mark=NOWHERE)
    portions = tuple(replace(portion, dataset=replace(portion.dataset, mark=NOWHERE)) for portion in model.portions)
    return repr((said_tests(model), replace(model, name="", mark=NOWHERE, base=base, portions=portions, tests=())))
