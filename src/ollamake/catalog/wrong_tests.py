"""What is wrong with an entry of `tests:`, whatever model it is of."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from ollamake.catalog.expanded import written
from ollamake.catalog.tests import ALWAYS, KEYS_OF, LOSS, METRICS, Expect
from ollamake.catalog.values import KeyPath

Wrong: TypeAlias = tuple[KeyPath, str, str]  # key of the test, what is wrong, what to do


def wrong_with(entry: Mapping[str, Any]) -> Iterator[Wrong]:
    """What is wrong with one test, whatever model it is of."""
    kinds = [kind for kind in KEYS_OF if kind in entry]
    if not kinds:
        yield (), f"neither {', '.join(list(KEYS_OF)[:-1])} nor {list(KEYS_OF)[-1]}", "add `ask: QUESTION` and `expect: {contains: TEXT}`"
        return
    if len(kinds) > 1:
        yield (kinds[1],), f"{kinds[0]} beside {kinds[1]}", "make two tests of it"
        return
    (kind,) = kinds
    for key in entry:
        if key not in {"name", kind, *KEYS_OF[kind]}:
            yield (key,), f"{key} means nothing beside {kind}", f"remove it; beside {kind} may stand: {', '.join(('name', *KEYS_OF[kind]))}"
    if entry.get("name") in ALWAYS:
        yield ("name",), f"name: every model has a test {entry['name']!r} already", "give it another name"
    if kind == "dataset":
        yield from _wrong_with_measure(entry)
    elif kind != "keeps":
        yield from _wrong_with_chat(entry.get("chat", ()))
        yield from _wrong_with_expect(entry)


def _wrong_with_measure(entry: Mapping[str, Any]) -> Iterator[Wrong]:
    if "metric" not in entry:
        yield (), "missing key 'metric'", f"add `metric:`, one of {', '.join(METRICS)}"
        return
    wanted, other = ("max", "min") if entry["metric"] == LOSS else ("min", "max")
    if other in entry:
        better = "less" if wanted == "max" else "more"
        yield (other,), f"{other}: {better} of {entry['metric']} is better", f"write `{wanted}: {entry[other]}`"
    elif wanted not in entry and "no_worse_than" not in entry:
        yield (), "nothing says which score is enough", f"add `{wanted}: {'2.0' if wanted == 'max' else '0.8'}`, or `no_worse_than: base`"


def _wrong_with_chat(turns: Iterable[Mapping[str, str]]) -> Iterator[Wrong]:
    roles = [turn["role"] for turn in turns]
    if roles and roles[-1] != "user":
        yield (
            ("chat", len(roles) - 1),
            f"chat: it ends with a turn of the {roles[-1]}'s, and a question is to be answered",
            "end it with one of the user's",
        )
    twice = next((place for place in range(1, len(roles)) if roles[place - 1] == roles[place] == "user"), None)
    if twice is not None:
        yield ("chat", twice), "chat: two turns of the user's in a row", "make one of them, or write the answer between them"
    if "system" in roles[1:]:
        yield ("chat", roles.index("system", 1)), "chat: a system prompt that is not the first turn", "put it first"


def _wrong_with_expect(entry: Mapping[str, Any]) -> Iterator[Wrong]:
    if "expect" not in entry:
        yield (), "missing key 'expect'", "add `expect: {contains: TEXT}`"
        return
    expect = entry["expect"]
    if not expect.keys() - {"ignore_case"}:
        yield ("expect",), "expect: it expects nothing", "add `contains: TEXT`"
    yield from _wrong_with_texts(expect_of(expect))
    if "regex" in expect:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of spellings that Python may read otherwise one day
                re.compile(expect["regex"])
        except (re.error, RecursionError, OverflowError) as error:
            yield (
                ("expect", "regex"),
                f"expect.regex: {written(expect['regex'])!r} is no regular expression: {error}",
                "mend it; it is read as Python's `re` does",
            )


def _wrong_with_texts(expect: Expect) -> Iterator[Wrong]:
    """Of texts that no answer can hold to."""

    def folded(text: str) -> str:
        return text.strip().casefold() if expect.ignore_case else text.strip()

    for text in expect.not_contains:
        if text in expect.contains:
            yield ("expect", "not_contains"), f"expect: {written(text)!r} is in contains and in not_contains", "remove it from one of the two"
    for text in expect.contains if expect.equals is not None else ():
        if folded(text) not in folded(expect.equals or ""):
            yield ("expect", "contains"), f"expect: what it equals does not contain {written(text)!r}", "remove one of the two"


def expect_of(entry: Mapping[str, Any]) -> Expect:
    """What is expected of an answer, as the entry says it."""
    texts = {key: (entry[key],) if isinstance(entry[key], str) else tuple(entry[key]) for key in ("contains", "not_contains") if key in entry}
    return Expect(**{**entry, **texts})
