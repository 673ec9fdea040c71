"""By what an adapter, or packed weights, are found in a cache: what they are made of. Pure.

Files count by the part that they have and by their content, never by their path: so a model that was renamed finds its adapter, and so does another
one that is made of the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.catalog import Model
from ollamake.digest import digest_value
from ollamake.freshness import Record, Sight

ADAPTERS, PACKED = "adapters", "packed"  # kinds of what is kept, and the folders that it is kept in
DIGITS = 64
# How a file of a record is called, up to the first dot of its name or as a whole -> its part.
PARTS = {
    "text": "text",
    "holdout": "holdout",
    "adapter_config.json": "adapter config",
    "adapter_model.safetensors": "adapter weights",
    "model.gguf": "whole weights",
    "imatrix": "imatrix",
}


@dataclass(frozen=True, slots=True)
class Key:
    """What one object is found by."""

    kind: str  # ADAPTERS or PACKED
    digest: str  # 64 hex digits

    @property
    def path(self) -> str:
        """Where its object is in a cache."""
        return f"{self.kind}/{self.digest[:2]}/{self.digest}.tar"


def key_of(kind: str, record: Record, pinned: Mapping[str, Any] | None = None) -> Key | None:
    """The key of what a step makes; None where a file of it has no part that is known.

    `pinned`: the versions of which another would train again.
    """
    parts: dict[str, str] = {}
    for name, digest in record.inputs.items():
        part = part_of(name)
        if part is None or part in parts:
            return None
        parts[part] = digest
    facts = {"kind": kind, "inputs": parts, "keys": record.keys, "pinned": dict(pinned or {})}
    return Key(kind, digest_value(facts).removeprefix("sha256:"))


def is_shared(model: Model) -> bool:
    """Are adapters of this model shared? Not where a training begins with the adapter that happens to be there: no file of the repo says which."""
    return model.train.start is None or model.train.start.model is not None


def key_now(record: Record | None, sight: Sight, model: Model) -> Key | None:
    """The key of the training as it is now; None where its text is not known, or it is not shared.

    What is not here, `record` tells: the text of a fresh clone is that of its lock.
    """
    before = record.inputs if record is not None else {}
    inputs = {name: digest or before.get(name) for name, digest in sight.inputs.items()}
    known = {name: digest for name, digest in inputs.items() if digest is not None}
    if len(known) < len(inputs) or not is_shared(model):
        return None
    return key_of(ADAPTERS, Record(inputs=known, keys=digest_value(sight.keys), targets={}, versions={}), sight.pinned)


def keys_of_training(record: Record) -> set[Key]:
    """The keys that a training may be found by that this record tells of: whether its versions are pinned, no record says."""
    keys = (key_of(ADAPTERS, record), key_of(ADAPTERS, record, record.versions))
    return {key for key in keys if key is not None}


def key_at(path: str) -> Key | None:
    """The key of the object at this path of a cache; None where it is none of ours."""
    kind, _, rest = path.partition("/")
    key = Key(kind, rest.rpartition("/")[2].removesuffix(".tar"))
    is_key = len(key.digest) == DIGITS and not set(key.digest) - set("0123456789abcdef")
    return key if kind in {ADAPTERS, PACKED} and is_key and path == key.path else None


def part_of(name: str) -> str | None:
    """The part that an input has, by the name that a record gives it."""
    if name.startswith("base "):
        return "base"
    file = name.rpartition("/")[2]
    return PARTS.get(file) or PARTS.get(file.partition(".")[0])
