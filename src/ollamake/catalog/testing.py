"""`tests:` of the places that have a say in a model -> the model's tests, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ollamake.catalog.adapters import is_lora_file
from ollamake.catalog.advice import Advice
from ollamake.catalog.expanded import written
from ollamake.catalog.files import Files
from ollamake.catalog.json_schemas import schema_in
from ollamake.catalog.kept import Kept
from ollamake.catalog.layers import Layers
from ollamake.catalog.tests import ALWAYS, LOSS, METRICS, Keeps, Measure, Question, Test
from ollamake.catalog.values import Dataset, KeyPath, Layer, Portion
from ollamake.catalog.wrong_tests import expect_of, wrong_with
from ollamake.errors import Fault, Mark
from ollamake.spelling import counted

SHOWN = 60  # characters of a question that names its test


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
        files: Files,
        kept: Kept,
        only_looks: bool,
    ) -> None:
        """`faults`: where those go that there are. `scopes`: file -> datasets by the names that it has for them."""
        self.model, self.layers, self.faults = model, layers, faults
        self.scopes, self.advice, self.only_looks = scopes, advice, only_looks
        self.files, self.kept = files, kept
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
            wrong = self._wrong_with_schema(schema) if isinstance(schema, str) else None
            if wrong is not None:
                self._fault(layer, (*place, "expect", "json_schema"), f"{_dotted(layer.place(place))}: {wrong[0]}", wrong[1])
            messages = entry["chat"] if "chat" in entry else [{"role": "user", "content": entry["ask"]}]
            repeat = int(entry.get("repeat", 1))
            return Question(name=name, messages=tuple(messages), expect=expect_of(entry["expect"]), repeat=repeat, mark=mark)
        return self._measure(layer, place, entry, name)

    def _wrong_with_schema(self, path: str) -> tuple[str, str] | None:
        try:
            content = self.files.schema(path)
        except OSError as error:
            return f"{written(path)}: can't be read: {error.strerror}", "give yourself the right to read it"
        if content is None:
            return None if self.only_looks else (f"no such file: {written(path)}", "put the JSON Schema there, or mend `json_schema`")
        if not self.kept.is_schema(content):
            try:
                schema_in(content)
            except ValueError as error:
                return f"{written(path)}: {error}", "mend it, or name another in `json_schema`"
            self.kept.keep_schema(content)
        return None

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
