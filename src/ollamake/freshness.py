"""Why a step runs: what differs between its last record and now. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ollamake.digest import digest_value
from ollamake.errors import Mark

SHOWN = 60  # characters of a value
LISTED = 5  # tests that are named

# Every kind of reason, and how it is said; {what} is a file, a key or a model, {old} and {new} are values.
KINDS = {
    "never built": "not built yet",
    "added": "new since {new}",
    "faulty then": "the catalog had faults at {new}: {what}",
    "target gone": "{what} is gone",
    "target changed": "{what} is not what was made",
    "target unknown": "{what} is not known to have been made",
    "input new": "{what} is new",
    "input gone": "{what} is no longer read",
    "input missing": "{what} is not there",
    "input changed": "{what} changed",
    "input edited": "{what} was edited while it ran",
    "key": "{what}: {old} -> {new}",
    "keys": "its keys of the catalog changed",
    "version": "version of {what}: {old} -> {new}",
    "unseen": "it can't be seen whether it is fresh",
    "not registered": "{what} is no longer on {new}",
    "replaced": "{what} on {new} was replaced by hand",
    "no server": "nothing answers at {new}",
    "behind": "{what} will run",
    "perhaps behind": "{what} will run; {new} unless {old} comes out the same",
    "perhaps behind perhaps": "{what} may run; {new} unless {old} comes out the same",
    "fails": "it will fail: {what}",
    "blocked": "{what} will fail",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that makes a step stale."""

    kind: str  # one of KINDS
    what: str = ""  # file, key of the catalog, model or step
    old: Any = None
    new: Any = None
    mark: Mark | None = None  # where the catalog says the new value
    detail: str = ""  # of a dataset's file: which records

    def __str__(self) -> str:
        if self.detail:
            return f"{self.what}: {self.detail}"
        if self.kind == "key" and self.what == "tests" and _are_named(self.old) and _are_named(self.new):
            return f"{self.what}: {_tests_changed(self.old, self.new)}"
        old, new = (shown(value) for value in (self.old, self.new)) if self.kind == "key" else (self.old, self.new)
        return KINDS[self.kind].format(what=self.what, old=old, new=new)

    @property
    def text(self) -> str:
        """The reason, and where its cause stands."""
        return f"{self} ({self.mark})" if self.mark else str(self)

    def as_json(self) -> dict[str, Any]:
        """The reason for programs."""
        facts = {"kind": self.kind, "what": self.what or None, "old": self.old, "new": self.new, "at": str(self.mark) if self.mark else None}
        return {**{name: value for name, value in facts.items() if value is not None}, "text": str(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a step was last done from, and what came of it: its block in the lock."""

    inputs: Mapping[str, str]  # file, or `base NAME` -> digest, taken before the step began
    keys: str  # digest of what the catalog said
    targets: Mapping[str, str]  # file, or model in Ollama -> digest
    versions: Mapping[str, Any]  # of the stage, and of the trainer's packages
    edited: tuple[str, ...] = ()  # inputs that changed while the step ran: nobody knows what it read
    accepted: str | None = None  # why a person took it as built

    def as_json(self) -> dict[str, Any]:
        """The block, without what is empty and need not be there."""
        block: dict[str, Any] = {
            "inputs": dict(self.inputs),
            "keys": self.keys,
            "targets": dict(self.targets),
            "versions": dict(self.versions),
        }
        if self.edited:
            block["edited"] = list(self.edited)
        if self.accepted is not None:
            block["accepted"] = self.accepted
        return block

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> Record:
        """The record in this block."""
        return cls(
            inputs=block["inputs"],
            keys=block["keys"],
            targets=block["targets"],
            versions=block["versions"],
            edited=tuple(block.get("edited", ())),
            accepted=block.get("accepted"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A step as it is now."""

    inputs: Mapping[str, str | None]  # as in Record; None: it is not there
    keys: Mapping[str, Any]  # what the catalog says, by the keys' names
    targets: Mapping[str, str | None] = field(
        default_factory=dict
    )  # those that the step makes, and those that the record names; None: it is not there
    pinned: Mapping[str, Any] = field(default_factory=dict)  # versions of which another is a reason
    lost: tuple[Reason, ...] = ()  # what else of its results is not as it was made


def reasons(record: Record | None, now: Sight, keys_before: Callable[[], Mapping[str, Any]] = dict) -> tuple[Reason, ...]:
    """The reasons to do a step again; empty where it is fresh.

    `keys_before`, asked where the keys are others: what the catalog said then, as the receipt has it. Where that is not of the record, single keys
    can't be told.
    """
    if record is None:
        missing = (Reason(kind="input missing", what=path) for path, digest in sorted(now.inputs.items()) if digest is None)
        return (Reason(kind="never built"), *missing)
    return (*now.lost, *_targets(record, now), *_inputs(record, now), *_keys(record, now, keys_before), *_versions(record, now))


def _targets(record: Record, now: Sight) -> Iterator[Reason]:
    for path, digest in now.targets.items():
        if digest is None:
            yield Reason(kind="target gone", what=path)
        elif path not in record.targets:
            yield Reason(kind="target unknown", what=path, new=digest)
        elif digest != record.targets[path]:
            yield Reason(kind="target changed", what=path, old=record.targets[path], new=digest)


def _inputs(record: Record, now: Sight) -> Iterator[Reason]:
    for path in sorted({*record.inputs, *now.inputs}):
        before, digest = record.inputs.get(path), now.inputs.get(path)
        if path not in now.inputs:
            yield Reason(kind="input gone", what=path, old=before)
        elif digest is None:
            yield Reason(kind="input missing", what=path, old=before)
        elif before is None:
            yield Reason(kind="input new", what=path, new=digest)
        elif before != digest:
            yield Reason(kind="input changed", what=path, old=before, new=digest)
        elif path in record.edited:
            yield Reason(kind="input edited", what=path)


def _versions(record: Record, now: Sight) -> Iterator[Reason]:
    for package, version in now.pinned.items():
        if record.versions.get(package) != version:
            yield Reason(kind="version", what=package, old=record.versions.get(package), new=version)


def _keys(record: Record, now: Sight, keys_before: Callable[[], Mapping[str, Any]]) -> Iterator[Reason]:
    if record.keys == digest_value(now.keys):
        return
    before = keys_before()
    if record.keys != digest_value(before):
        yield Reason(kind="keys")
        return
    for key in sorted({*before, *now.keys}):
        if before.get(key) != now.keys.get(key):
            yield Reason(kind="key", what=key, old=before.get(key), new=now.keys.get(key))


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value)


def _tests_changed(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> str:
    """`opening changed, parcels is new`: what became of each test, by its name."""
    before, now = ({test["name"]: test for test in tests} for tests in (old, new))
    found = [f"{name} {'changed' if name in before else 'is new'}" for name, test in now.items() if before.get(name) != test]
    found += [f"{name} is gone" for name in before if name not in now]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"{', '.join(found[:LISTED])}{more}" or "their order changed"


def shown(value: Any) -> str:
    """A value of the catalog as a message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        return _short(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _short(value: float) -> str:
    """`2e-4`, as people write a learning rate."""
    digits, _, power = f"{value:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
