"""Which models a selector means: names, patterns, `tag:`, `base:`, `data:`, what has to be looked up, and set operations as dbt has them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.spelling import nearest

# What the catalog alone says of a model, by the method that selects by it.
SAID: Mapping[str, Callable[[Model], Collection[str]]] = {
    "base": lambda model: (model.base.name,),
    "data": lambda model: tuple(dataset.name for dataset in model.data),
    "tag": lambda model: model.tags,
}
STATES = ("fresh", "modified", "new", "stale")  # of `state:`; modified is dbt's word for stale
LOOKED_UP = ("since", "state")
# A revision may have a `+` in it, and behind `@` or `^` spaces and commas within braces: `main@{2 days ago}`.
_SINCE = re.compile(r"(?:(?:[1-9][0-9]*)?\+)?(?P<core>since:.+)(?P<after>)", re.DOTALL)
_CHOICE = re.compile(r"(?:[@^]\{[^{}]*\}|\S)+")
_COMMA = re.compile(r",(?![^{}]*\})")
_TERM = re.compile(r"(?:(?:[1-9][0-9]*)?\+)?(?P<core>[^+]+)(?P<after>\+(?:[1-9][0-9]*)?)?")

# Method, value and the names of the models that come into question -> those that are so. Raises BuildError and OSError.
LookUp: TypeAlias = Callable[[str, str, Sequence[str]], Collection[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One part of a selector."""

    method: str  # one of SAID or of LOOKED_UP; empty where it is a name
    value: str  # or a pattern
    onwards: bool  # `name+`: with all that is built from it


def terms_of(selector: str) -> list[list[Term]]:
    """The selector's parts: a model is meant that all of the parts of any of the lists mean. Raises BuildError."""
    return [[_term(part, selector) for part in _COMMA.split(choice)] for choice in _CHOICE.findall(selector) or [""]]


def select(selectors: Iterable[str], models: Mapping[str, Model], look_up: LookUp, *, exclude: Iterable[str] = ()) -> list[str]:
    """The models that any of these selectors means, and none that is excluded; all of them, where there is no selector. Raises BuildError.

    What has to be looked up is asked of those models alone that the rest of its selector leaves over.
    """
    wanted = list(selectors)
    found = dict.fromkeys(models) if not wanted else {}
    for selector in wanted:
        found.update(dict.fromkeys(_meant(selector, models, models, look_up)))
    for selector in exclude:
        for name in _meant(selector, models, found, look_up):
            del found[name]
    return list(found)


def _term(part: str, selector: str) -> Term:
    match = _SINCE.fullmatch(part) or _TERM.fullmatch(part)
    method, colon, value = match["core"].partition(":") if match else ("", "", "")
    if not match or (colon and not value):
        at = f" in {selector!r}" if part != selector else ""
        msg = f"not a selector: {part!r}{at}"
        raise BuildError(msg, fix="write a name, a pattern or METHOD:VALUE; a comma between two for those that are both, a space for either")
    if not colon:
        return Term(method="", value=method, onwards=bool(match["after"]))
    if method not in {*SAID, *LOOKED_UP}:
        msg = f"{part}: unknown method {method!r}"
        raise BuildError(msg, fix=nearest(method, {*SAID, *LOOKED_UP}))
    if method == "state" and value not in STATES:
        msg = f"{part}: unknown state {value!r}"
        raise BuildError(msg, fix=nearest(value, STATES))
    return Term(method=method, value=value, onwards=bool(match["after"]))


def _meant(selector: str, models: Mapping[str, Model], among: Iterable[str], look_up: LookUp) -> list[str]:
    """Those of these models that the selector means, in the catalog's order."""
    meant: set[str] = set()
    for choice in terms_of(selector):
        left = list(among)
        for term in choice:
            if term.method not in LOOKED_UP:
                said = _said(term, models)
                left = [name for name in left if name in said]
        for term in choice:
            if term.method in LOOKED_UP and left:
                so = look_up(term.method, term.value, left)
                left = [name for name in left if name in so]
        meant.update(left)
    return [name for name in models if name in meant]


def _said(term: Term, models: Mapping[str, Model]) -> set[str]:
    """The models that a term means by the catalog alone. Raises BuildError where it means none, as then it is misspelt."""
    if not term.method:
        return _named(term, models)
    values = {name: SAID[term.method](model) for name, model in models.items()}
    found = {name for name, own in values.items() if any(fnmatchcase(value, term.value) for value in own)}
    if not found:
        msg = f"no model has {term.method}:{term.value}"
        raise BuildError(msg, fix=nearest(term.value, {value for own in values.values() for value in own}))
    return found


def _named(term: Term, models: Mapping[str, Model]) -> set[str]:
    """The models of this name; with `+` behind it, also those that are built from the dataset or base of this name."""
    if term.value in models and not term.onwards:
        return {term.value}
    sources = {name: {*SAID["base"](model), *SAID["data"](model)} for name, model in models.items()}
    found = {name for name in models if fnmatchcase(name, term.value)}
    built_from_it = {name for name, own in sources.items() if any(fnmatchcase(source, term.value) for source in own)}
    if term.onwards:
        found |= built_from_it
    if found:
        return found
    if built_from_it:
        msg = f"no model {term.value!r} in the catalog: it is what models are built from"
        raise BuildError(msg, fix=f"write '{term.value}+' for the models that are built from it")
    known = set(models).union(*sources.values()) if term.onwards else set(models)
    msg = f"no model{', dataset or base' if term.onwards else ''} {term.value!r} in the catalog"
    raise BuildError(msg, fix=nearest(term.value, known))
