"""`tests:` of the places that have a say in a model -> the model's tests, and what is wrong with them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ollamake.catalog.adapters import is_lora_file
from ollamake.catalog.advice import Advice
from ollamake.catalog.expanded import written
from ollamake.catalog.layers import Layers
from ollamake.catalog.tests import ALWAYS, KEYS_OF, LOSS, METRICS, Expect, Keeps, Measure, Question, Test
from ollamake.catalog.values import Dataset, KeyPath, Layer, Portion
from ollamake.errors import Fault, Mark
from ollamake.spelling import counted

SHOWN = 60  # characters of a question that names its test

Wrong: TypeAlias = tuple[KeyPath, str, str]  # key of the test, what is wrong, what to do


def with_paths(tests: Iterable[Mapping[str, Any]], below: Callable[[str], str]) -> list[Mapping[str, Any]]:
    """The entries, their JSON Schemas as seen from the working directory, as `below` says."""
    found: list[Mapping[str, Any]] = []
    for test in tests:
        schema = test.get("expect", {}).get("json_schema")
        found.append({**test, "expect": {**test["expect"], "json_schema": below(schema)}} if isinstance(schema, str) else test)
    return found


class Tests:
    """Of one model, as its own entry says them and then each place that says some of all models."""

    def __init__(
        self,
        model: str,
        layers: Layers,
        faults: list[Fault],
        *,
        scopes: Mapping[str, Mapping[str, Dataset]],
        advice: Advice,
        only_looks: bool,
    ) -> None:
        """`faults`: where those go that there are. `scopes`: file -> datasets by the names that it has for them."""
        self.model, self.layers, self.faults = model, layers, faults
        self.scopes, self.advice, self.only_looks = scopes, advice, only_looks
        self.trained_on: set[str] = set()
        self.adapter: str | None = None

    def found(self, portions: Iterable[Portion], adapter: str | None) -> tuple[Test, ...]:
        """The tests of a model that is trained on these, or has this adapter; what is wrong goes into `faults`."""
        self.trained_on, self.adapter = {portion.dataset.name for portion in portions}, adapter
        found: dict[str, Test] = {}
        for layer in self.layers:
            for index, entry in enumerate(layer.value.get("tests", ())):
                place: KeyPath = ("tests", index)
                wrong = list(wrong_with(entry))
                for key, text, fix in wrong:
                    self._fault(layer, (*place, *key), f"{_dotted(layer.place(place))}: {text}", fix)
                test = None if wrong else self._test(layer, place, entry, _free(_name(entry), (*ALWAYS, *found)))
                if test is not None and "name" in entry and entry["name"] in found:
                    text = f"model {self.model!r}: two tests are named {entry['name']!r}; the other is at {found[entry['name']].mark}"
                    self._fault(layer, (*place, "name"), text, "give one of them another name")
                elif test is not None:
                    found[test.name] = test
        return tuple(found.values())

    def _fault(self, layer: Layer, key: KeyPath, text: str, fix: str) -> None:
        self.faults.append(Fault(mark=_mark(layer, key), text=text, fix=fix))

    def _test(self, layer: Layer, place: KeyPath, entry: Mapping[str, Any], name: str) -> Test | None:
        mark = _mark(layer, place)
        if "keeps" in entry:
            return Keeps(name=name, prompts=tuple(entry["keeps"]), least=_number(entry, "min"), mark=mark)
        if "dataset" not in entry:
            schema = entry["expect"].get("json_schema")
            if isinstance(schema, str) and not self.only_looks and not Path(schema).is_file():
                text = f"{_dotted(layer.place(place))}: no such file: {written(schema)}"
                self._fault(layer, (*place, "expect", "json_schema"), text, "put the JSON Schema there, or mend `json_schema`")
            messages = entry["chat"] if "chat" in entry else [{"role": "user", "content": entry["ask"]}]
            repeat = int(entry.get("repeat", 1))
            return Question(name=name, messages=tuple(messages), expect=_expect(entry["expect"]), repeat=repeat, mark=mark)
        return self._measure(layer, place, entry, name)

    def _measure(self, layer: Layer, place: KeyPath, entry: Mapping[str, Any], name: str) -> Measure | None:
        datasets = self.scopes[layer.path]
        about = f"model {self.model!r}: tests[{place[-1]}]"
        if entry["dataset"] not in datasets:
            fix = self.advice.name("dataset", entry["dataset"], datasets)
            self._fault(layer, (*place, "dataset"), f"{about}: unknown dataset {entry['dataset']!r}", fix)
            return None
        dataset = datasets[entry["dataset"]]
        is_trained_on = dataset.name in self.trained_on
        if is_trained_on and not dataset.holdout:
            text = f"{about}: the model is trained on every record of {dataset.name!r}, so they say nothing of what it has learnt"
            self._fault(layer, (*place, "dataset"), text, f"write `holdout: 5%` into dataset {dataset.name!r}, or ask about another")
        if entry["metric"] == LOSS and self.adapter is not None and is_lora_file(self.adapter):
            text = f"{about}: the loss is measured by the adapter of PEFT, and this model has a GGUF LoRA"
            self._fault(layer, (*place, "metric"), text, f"write another metric: {', '.join(metric for metric in METRICS if metric != LOSS)}")
        return Measure(
            name=name,
            dataset=dataset,
            metric=entry["metric"],
            least=_number(entry, "min"),
            most=_number(entry, "max"),
            no_worse_than=entry.get("no_worse_than"),
            limit=None if "limit" not in entry else int(entry["limit"]),
            only_held_out=is_trained_on,
            mark=_mark(layer, place),
        )


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
    yield from _wrong_with_texts(_expect(expect))
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


def _expect(entry: Mapping[str, Any]) -> Expect:
    texts = {key: (entry[key],) if isinstance(entry[key], str) else tuple(entry[key]) for key in ("contains", "not_contains") if key in entry}
    return Expect(**{**entry, **texts})


def _number(entry: Mapping[str, Any], key: str) -> float | None:
    return None if key not in entry else float(entry[key])


def _mark(layer: Layer, key: KeyPath) -> Mark:
    """Where this key stands, or the nearest one around it."""
    marks = (layer.mark(key[:size]) for size in range(len(key), -1, -1))
    return next(filter(None, marks), Mark(layer.path, 1))


def _dotted(at: KeyPath) -> str:
    from ollamake.catalog.faults import dotted  # with JSON Schema, which takes its time to be imported

    return dotted(at)


def _name(entry: Mapping[str, Any]) -> str:
    """The name that the entry gives, else one by what it asks."""
    if "name" in entry:
        return str(entry["name"])
    if "dataset" in entry:
        return f"{entry['metric']} of {entry['dataset']}"
    if "keeps" in entry:
        more = f", and {counted(len(entry['keeps']) - 1, 'more prompt')}" if len(entry["keeps"]) > 1 else ""
        return f"keeps: {_short(entry['keeps'][0])}{more}"
    return _short(entry["ask"] if "ask" in entry else entry["chat"][-1]["content"])


def _short(text: str) -> str:
    line = " ".join(written(text).split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where another test has it already."""
    names = set(taken)
    number = 2
    found = name
    while found in names:
        found, number = f"{name} ({number})", number + 1
    return found
