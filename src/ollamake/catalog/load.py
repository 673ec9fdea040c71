"""`models.yaml` -> Catalog, or every fault of it at once."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ollamake.catalog.adapters import adapter_of, wrong_with_adapter
from ollamake.catalog.advice import TOO_LONG, is_too_long, shown
from ollamake.catalog.caching import cache_of
from ollamake.catalog.engine import engine_of, wrong_with_engine
from ollamake.catalog.expanded import digest_of, written
from ollamake.catalog.files import Files
from ollamake.catalog.held import not_found_yet, wrong_with_base
from ollamake.catalog.kept import Kept
from ollamake.catalog.launching import wrong_with_launch
from ollamake.catalog.layers import Layers, serve_of, train_of
from ollamake.catalog.matrix import variants
from ollamake.catalog.names import Names, Scope, taken
from ollamake.catalog.pushing import push_of, pushed_twice
from ollamake.catalog.shared import Part, Shared
from ollamake.catalog.sinks import sinks_of
from ollamake.catalog.sources import Source, Sources
from ollamake.catalog.testing import Tests
from ollamake.catalog.training import share_of, with_starts, wrong_with_holdout, wrong_with_trainer
from ollamake.catalog.unused import unused, unused_types
from ollamake.catalog.values import Base, Catalog, Dataset, KeyPath, Layer, Model, Portion
from ollamake.errors import Fault, FaultyFileError, Mark


def load_catalog(
    path: Path,
    *,
    trainers: Collection[str],
    only_looks: bool = False,
    part: Part | None = None,
    environ: Mapping[str, str] = os.environ,
    kept: Kept | None = None,
    files: Files | None = None,
) -> Catalog:
    """The catalog in this file and what it includes; `trainers` are the names of those installed. Raises BuildError, FaultyFileError where it has faults.

    `only_looks`: files of datasets need not be there. `part`: what is wanted of it; nothing is said of the rest, its faults neither.
    `environ`: values for `${NAME}`. `kept`: what loads before this one have read. `files`: where they are looked for, if not on this disk.
    """
    sources = Sources(environ, kept or Kept(), files or Files())
    sources.read(path.as_posix())
    if not sources.faults:
        shared = Shared(
            trainers=trainers,
            only_looks=only_looks,
            part=part,
            files=sources.files,
            kept=sources.kept,
            patterns=sources.patterns,
            faults=sources.faults,
            advice=sources.advice,
        )
        catalog = _catalog(sources, [_Reading(source=source, shared=shared) for source in sources.found], shared)
    if sources.faults:
        order = {written(file): place for place, file in enumerate(sources.digests)}
        raise FaultyFileError(sorted(dict.fromkeys(sources.faults), key=lambda fault: (order[fault.mark.path], fault.mark.line)))
    return catalog


def _catalog(sources: Sources, readings: list[_Reading], shared: Shared) -> Catalog:
    """What the files say together; the faults of it go into `shared`."""
    bases, datasets, models = Names[Base]("base", shared.faults), Names[Dataset]("dataset", shared.faults), Names[Model]("model", shared.faults)
    for reading in readings:
        for name, base in reading.entries("bases"):
            bases.add(reading.source, reading.whole(name), reading.base(name, base))
            shared.layers.setdefault(reading.whole(name), reading.source.layer_of_base(name, base))
        for name, dataset in reading.entries("datasets"):
            if shared.part is None or reading.whole(name) in shared.part.datasets:
                datasets.add(reading.source, reading.whole(name), reading.dataset(name, dataset))
    layers: dict[str, Layers] = {}
    shared.scopes.update({reading.mark(()).path: Scope(datasets, reading.source) for reading in readings})
    for reading in readings:
        for name, model, said_by in reading.models(Scope(bases, reading.source), Scope(datasets, reading.source)):
            models.add(reading.source, name, model)
            layers.setdefault(name, said_by)

    def fault(model: str, key: str, text: str, fix: str) -> None:
        marks = (layer.mark(tuple(key.split("."))) for layer in layers[model])
        mark = next(filter(None, marks), models[model].mark)
        shared.faults.append(Fault(mark=mark, text=f"model {model!r}: {key}: {text}", fix=fix))

    whole = with_starts(models, shared.advice, fault)
    shared.faults.extend(pushed_twice(whole.values()))
    first = sources.found[0]
    if not models and not shared.faults and shared.part is None:
        readings[0].fault(("include",), "no model in this catalog, nor in those that it includes", "write models, or include a catalog that has some")
    libraries = {source.mark(()).path for source in sources.found[1:] if "models" not in source.value}
    return Catalog(
        path=first.path,
        hosts=(said,) if isinstance(said := first.value.get("ollama", {}).get("host", ()), str) else tuple(said),
        kept_versions=int(first.value.get("ollama", {}).get("keep", 1)),
        datasets=tuple(datasets.values()),
        models=tuple(whole.values()),
        cache=cache_of(first.value.get("cache", {}), first.below, first.mark, readings[0].fault),
        sinks=sinks_of(first.value.get("sinks", {}), first.mark, readings[0].fault),
        policy=first.value.get("policy", {}),
        warnings=(*unused(models.values(), bases.values(), datasets.values(), libraries), *unused_types(layers)),
        layers=layers,
        digests=sources.digests,
        patterns=shared.patterns,
        environment={name: digest_of(sources.environ.get(name)) for source in sources.found for name in source.variables},
    )


@dataclass(kw_only=True)
class _Reading:
    """Of one file."""

    source: Source
    shared: Shared

    def fault(self, at: KeyPath, text: str, fix: str | None) -> None:
        self.shared.faults.append(Fault(mark=self.mark(at), text=text, fix=fix))

    def fault_below(self, entry: KeyPath, at: KeyPath, text: str, fix: str | None) -> None:
        self.fault((*entry, *at), text, fix)

    def mark(self, at: KeyPath) -> Mark:
        return self.source.mark(at)

    def entries(self, kind: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Those of this file, by the names that they have in it."""
        return dict[str, Mapping[str, Any]](self.source.value.get(kind, {})).items()

    def whole(self, name: str) -> str:
        """The name that an entry of this file has everywhere."""
        return self.source.prefix + name

    def models(self, bases: Mapping[str, Base], datasets: Mapping[str, Dataset]) -> Iterator[tuple[str, Model, Layers]]:
        """The models of this file by their whole names, each with what its keys are said by."""
        for label, entry in self.entries("models"):
            for variant in variants(label, entry, partial(self.fault_below, ("models", label))):
                name = self.whole(variant.name)
                if self.shared.part is not None and name not in self.shared.part.models:
                    continue
                own = self.source.layer(("models", label), variant.entry, variant.moved)
                if fault := taken(name):
                    self.fault(own.at, *fault)
                yield name, *self.model(label, name, own, bases, datasets)

    def base(self, name: str, entry: Mapping[str, Any]) -> Base:
        at, hf, held = ("bases", name), entry.get("hf"), entry.get("ollama")
        for key, text, fix in wrong_with_base(entry):
            self.fault((*at, key) if key else at, f"base {name!r}: {text}", fix)
        gguf = self.path(at, "gguf", entry, f"base {name!r}: gguf") if "gguf" in entry else not_found_yet(held or "")
        return Base(name=name, gguf=gguf, hf=hf, hf_folder=None if hf is None else self.source.below(hf), ollama=held, mark=self.mark(at))

    def path(self, at: KeyPath, key: str | int, said: Any, what: str) -> str:
        """The path, or pattern, that an entry says by this key."""
        path = self.source.below(said[key])
        if is_too_long(path):
            self.fault((*at, key), f"{what}: {shown(written(said[key]))} is too long for the name of a file", TOO_LONG)
        return path

    def dataset(self, name: str, entry: Mapping[str, Any]) -> Dataset:
        found: dict[str, None] = {}
        for index, pattern in enumerate(entry["files"]):
            path = self.path(("datasets", name, "files"), index, entry["files"], f"dataset {name!r}: files")
            matches = self.shared.files.matching(path)
            if matches != [path]:
                self.shared.patterns[path] = matches
            if not matches and self.shared.only_looks and not Path(path).is_dir():
                matches = [path] if glob.escape(path) == path else []
            elif not matches and not is_too_long(path):
                fix = self.shared.advice.file(self.source, path, "**/*.jsonl")
                self.fault(("datasets", name, "files", index), f"dataset {name!r}: no file matches {pattern!r}", fix)
            found.update(dict.fromkeys(matches))
        schema = self.path(("datasets", name), "schema", entry, f"dataset {name!r}: schema") if "schema" in entry else None
        if schema is not None and not self.shared.only_looks and not is_too_long(schema) and not Path(schema).is_file():
            self.fault(
                ("datasets", name, "schema"), f"dataset {name!r}: no such file: {entry['schema']}", "put the JSON Schema there, or mend `schema`"
            )
        return Dataset(
            name=name,
            files=tuple(found),
            format=entry.get("format"),
            fields=tuple(sorted(entry.get("fields", {}).items())),
            rules=dict(entry.get("rules", {})),
            schema=schema,
            holdout=share_of(entry.get("holdout", 0.0)),
            mark=self.mark(("datasets", name)),
        )

    def model(self, name: str, whole: str, own: Layer, bases: Mapping[str, Base], datasets: Mapping[str, Dataset]) -> tuple[Model, Layers]:
        """A model, and what its keys are said by; `name` is that of its entry, `whole` its own."""
        entry = own.value
        adapter, hub = adapter_of(entry, whole, lambda: self.path(own.at, "adapter", entry, f"model {name!r}: adapter"))
        if entry["base"] not in bases:
            self.fault(own.place(("base",)), f"model {name!r}: unknown base {entry['base']!r}", self.shared.advice.name("base", entry["base"], bases))
        for key, text, fix in wrong_with_adapter(entry):
            self.fault(own.place(tuple(key.split("."))) if key else own.at, f"model {name!r}: {text}", fix)
        base = bases.get(entry["base"]) or Base(name="", gguf="", hf=None, mark=self.mark(own.at))
        layers = (own, *filter(None, (self.shared.layers.get(base.name),)), *self.defaults)
        train, engine = train_of(layers), engine_of(layers)
        portions, of = self.portions(name, own, datasets), self.shared
        if "adapter" not in entry:  # else nothing is trained
            wrong = (*wrong_with_trainer(train, of.trainers, of.advice), *wrong_with_launch(train, engine.kind), *wrong_with_engine(engine))
            for key, text, fix in (*wrong, *wrong_with_holdout(train, portions)):
                said = (layer.mark(tuple(key.split("."))) for layer in layers)
                mark = next(filter(None, said), None) if "." in key else self.mark((*own.at, key))
                of.faults.append(Fault(mark=mark or self.mark(own.at), text=f"model {name!r}: {text}", fix=fix))
        tests = Tests(name, layers, of.faults, scopes=of.scopes, advice=of.advice, files=of.files, kept=of.kept, only_looks=of.only_looks)
        model = Model(
            name=name,
            base=base,
            portions=portions,
            shuffle=entry.get("shuffle", False),
            train=train,
            engine=engine,
            adapter=adapter,
            hub=hub,
            push=push_of(entry.get("push", {}), whole, self.mark(own.place(("push",)))),
            serve=serve_of(layers, train),
            tags=tuple(entry.get("tags", ())),
            tests=tests.found(portions, entry.get("adapter")),
            mark=self.mark(own.at),
        )
        return model, layers

    def portions(self, model: str, own: Layer, datasets: Mapping[str, Dataset]) -> tuple[Portion, ...]:
        """What the model reads of its datasets."""
        found: dict[str, Portion] = {}
        for index, entry in enumerate(own.value.get("data", [])):
            told: Mapping[str, Any] = {"dataset": entry} if isinstance(entry, str) else entry
            at, name = own.place(("data", index)), told["dataset"]
            if name not in datasets:
                self.fault(at, f"model {model!r}: unknown dataset {name!r}", self.shared.advice.name("dataset", name, datasets))
            elif name in found:
                self.fault(at, f"model {model!r}: dataset {name!r} is named twice", "keep one of the two; `weight: 2` reads each record twice")
            else:
                found[name] = Portion(dataset=datasets[name], weight=float(told.get("weight", 1.0)), limit=told.get("limit"))
        return tuple(found.values())

    @cached_property
    def defaults(self) -> Layers:
        """What this file says of all its models, then what those say that include it; in the end what the first one says beside its defaults."""
        *_, first = around = tuple(self.source.around())
        engine = (first.layer((), {"engine": first.value["engine"]}),) if "engine" in first.value else ()
        return (*(source.layer(("defaults",), source.value["defaults"]) for source in around if "defaults" in source.value), *engine)
