"""`matrix:`: one entry of the catalog -> the entries of many models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, TypeAlias

from ollamake.catalog.environment import FaultAt
from ollamake.catalog.expanded import Expanded
from ollamake.catalog.values import KeyPath
from ollamake.spelling import nearest

MOST_MODELS = 10_000  # of one entry

NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,79}")  # as in schema.json
BAD_NAME = "use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit"
_Axes: TypeAlias = Mapping[str, list[Any]]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One model of an entry."""

    name: str
    entry: Mapping[str, Any]  # without `matrix` and `name`
    moved: Mapping[KeyPath, KeyPath] = field(default_factory=dict)  # key -> where in the entry its value stands


def variants(label: str, entry: Mapping[str, Any], fault: FaultAt) -> list[Variant]:
    """The models of this entry; `fault` is told, by places in the entry, what is wrong with its matrix."""
    if "matrix" not in entry:
        if "name" in entry:
            fault(("name",), f"model {label!r}: name without matrix", f"remove it: the model's name is {label!r}")
        return [Variant(name=label, entry=entry)]
    axes = {key: values for key, values in entry["matrix"].items() if key != "exclude"}
    if _has_faults(label, entry, axes, fault):
        return []
    common = {key: value for key, value in entry.items() if key not in {"matrix", "name"}}
    found: dict[str, Variant] = {}
    for places in _left(label, axes, entry["matrix"].get("exclude", []), fault):
        chosen = _chosen(axes, places)
        name = entry["name"]
        for key, value in chosen.items():
            name = name.replace(f"{{{key}}}", _text(value))
        if not NAME.fullmatch(name):
            fault(("name",), f"model {label!r}: {name!r} can't be a name", BAD_NAME)
            return []
        if name in found:
            unused = [f"{{{key}}}" for key in axes if f"{{{key}}}" not in entry["name"]]
            fix = f"put {' and '.join(unused)} into the name" if unused else "put something between the placeholders"
            fault(("name",), f"model {label!r}: two models of its matrix are named {name!r}", fix)
            return []
        moved: dict[KeyPath, KeyPath] = {tuple(key.split(".")): ("matrix", key, index) for key, index in places.items()}
        found[name] = Variant(name=name, entry=_with(common, chosen), moved=moved)
    return list(found.values())


def _left(label: str, axes: _Axes, exclude: list[Mapping[str, Any]], fault: FaultAt) -> list[dict[str, int]]:
    """The product of the axes, as the places of the values, without what is excluded."""
    left: list[dict[str, int]] = []
    unused = dict.fromkeys(range(len(exclude)))
    for indexes in product(*(range(len(values)) for values in axes.values())):
        places = dict(zip(axes, indexes, strict=True))
        chosen = _chosen(axes, places)
        by = [index for index, part in enumerate(exclude) if all(chosen[key] == value for key, value in part.items())]
        for index in by:
            unused.pop(index, None)
        if not by:
            left.append(places)
    for index in unused:
        fault(("matrix", "exclude", index), f"model {label!r}: no model of its matrix is like this", "mend it, or remove it")
    if not left:
        fault(("matrix", "exclude"), f"model {label!r}: every model of its matrix is excluded", "leave one")
    return left


def _chosen(axes: _Axes, places: Mapping[str, int]) -> dict[str, Any]:
    return {key: axes[key][index] for key, index in places.items()}


def _has_faults(label: str, entry: Mapping[str, Any], axes: _Axes, fault: FaultAt) -> bool:
    faults = list(_faults(label, entry, axes))
    for at, text, fix in faults:
        fault(at, f"model {label!r}: {text}", fix)
    return bool(faults)


def _faults(label: str, entry: Mapping[str, Any], axes: _Axes) -> Iterator[tuple[KeyPath, str, str]]:
    if not axes:
        yield ("matrix",), "a matrix of nothing", "write a key, and the list of its values"
    if prod(map(len, axes.values())) > MOST_MODELS:
        yield ("matrix",), f"a matrix of more than {MOST_MODELS} models", "make several entries of it"
    for key, values in axes.items():
        yield from (
            (("matrix", key, index), f"{_text(value)!r} stands twice", "remove one") for index, value in enumerate(values) if value in values[:index]
        )
        if _stands_in(entry, key.split(".")):
            yield ("matrix", key), f"{key} stands in the matrix and beside it", "keep one of the two"
    if "base" not in entry and "base" not in axes:
        yield (), "missing key 'base'", "add 'base', to the model or to its matrix"
    for index, part in enumerate(entry["matrix"].get("exclude", [])):
        for key in part:
            if key not in axes:
                yield ("matrix", "exclude", index, key), f"{key!r} is not in the matrix", nearest(key, axes)
    if "name" not in entry:
        yield (), "matrix without name", f"add a template of the names: `name: {label}-{''.join(f'{{{key}}}' for key in list(axes)[:1])}`"
    else:
        yield from _name_faults(entry["name"], axes)


def _name_faults(template: str, axes: _Axes) -> Iterator[tuple[KeyPath, str, str]]:
    for key in dict.fromkeys(_PLACEHOLDER.findall(template)):
        if key not in axes:
            yield ("name",), f"`{{{key}}}` is not in the matrix", nearest(key, axes)
            continue
        for index, value in enumerate(axes[key]):
            fix = f"take {{{key}}} out of the name"
            if isinstance(value, Expanded):
                yield ("matrix", key, index), f"{value.written!r} can't be part of a name: models.lock would tell it", fix
            elif not re.fullmatch(r"[a-z0-9._-]+", _text(value)):
                yield ("matrix", key, index), f"{_text(value)!r} can't be part of a name", fix


def _text(value: Any) -> str:
    return "-".join(map(_text, value)) if isinstance(value, list) else str(value)


def _stands_in(entry: Any, parts: list[str]) -> bool:
    for part in parts:
        if part not in entry:
            return False
        entry = entry[part]
    return True


def _with(entry: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(entry)
    for key, value in chosen.items():
        at = made
        *folders, last = key.split(".")
        for folder in folders:
            at[folder] = at = dict(at.get(folder, {}))
        at[last] = value
    return made
