"""`models.yaml` -> Catalog, or every fault of it at once."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ollamake.catalog.faults import mark_of, schema_faults
from ollamake.catalog.files import matching
from ollamake.catalog.marked_yaml import KeyPath, parse
from ollamake.catalog.values import MARKERS, Base, Catalog, Dataset, Model, Serve, Train
from ollamake.digest import digest_bytes
from ollamake.errors import BuildError, Fault, FaultyFileError, Mark
from ollamake.spelling import nearest


def load_catalog(path: Path, *, trainers: Iterable[str], only_looks: bool = False) -> Catalog:
    """The catalog in this file; `trainers` are the names of those installed. Raises FaultyFileError.

    `only_looks`: files of datasets need not be there.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: can't be read: {error.strerror}"
        raise BuildError(msg, fix="write a catalog there, or name another in dodo.py: tasks_from(...)") from error
    except UnicodeDecodeError as error:
        raise FaultyFileError([Fault(mark=Mark(str(path), 1), text="not UTF-8", fix="save it as UTF-8")]) from error
    value, lines = parse(text, str(path))
    if value is None:
        fix = "write version, bases, datasets and models; docs/catalog.md of ollamake shows how"
        raise FaultyFileError([Fault(mark=Mark(str(path), 1), text="the catalog is empty", fix=fix)])
    faults = schema_faults(value, lines, str(path))
    if faults:
        raise FaultyFileError(faults)
    reading = _Reading(value=value, lines=lines, path=path, trainers=tuple(trainers), digest=digest_bytes(content), only_looks=only_looks)
    catalog = reading.catalog()
    if reading.faults:
        raise FaultyFileError(sorted(reading.faults, key=lambda fault: fault.mark))
    return catalog


def _plain(key: str, value: Any) -> Any:
    """The value of a key of `train` in the one form that it has: 3.0 epochs are 3, and a LoRA's layers have no order."""
    if key == "target_modules":
        return tuple(sorted(value))
    if key == "command":
        return tuple(value)
    if key in {"alpha", "learning_rate"}:
        return float(value)
    return int(value) if isinstance(value, float) else value


@dataclass(kw_only=True)
class _Reading:
    value: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    path: Path
    trainers: tuple[str, ...]
    digest: str
    only_looks: bool
    faults: list[Fault] = field(default_factory=list)
    patterns: dict[str, list[str]] = field(default_factory=dict)  # that are more than the name of a file -> what they come to
    folders: dict[str, bool] = field(default_factory=dict)  # path that may be a folder, or a name -> is it a folder?

    def fault(self, at: KeyPath, text: str, fix: str) -> None:
        self.faults.append(Fault(mark=self.mark(at), text=text, fix=fix))

    def mark(self, at: KeyPath) -> Mark:
        return mark_of(at, self.lines, str(self.path))

    def catalog(self) -> Catalog:
        bases = {name: self.base(name, entry) for name, entry in self.value["bases"].items()}
        datasets = {name: self.dataset(name, entry) for name, entry in self.value.get("datasets", {}).items()}
        models = tuple(self.model(name, entry, bases, datasets) for name, entry in self.value["models"].items())
        return Catalog(
            path=str(self.path),
            host=self.value.get("ollama", {}).get("host"),
            datasets=tuple(datasets.values()),
            models=models,
            warnings=tuple(self.unused(models, bases, datasets)),
            lines=self.lines,
            digest=self.digest,
            patterns=self.patterns,
            folders=self.folders,
        )

    def base(self, name: str, entry: Mapping[str, Any]) -> Base:
        hf = entry.get("hf")
        if hf is not None:
            path = self.below(hf)
            self.folders[path] = Path(path).is_dir()
            hf = path if self.folders[path] else hf
        return Base(name=name, gguf=self.below(entry["gguf"]), hf=hf, mark=self.mark(("bases", name)))

    def dataset(self, name: str, entry: Mapping[str, Any]) -> Dataset:
        found: dict[str, None] = {}
        for index, pattern in enumerate(entry["files"]):
            path = self.below(pattern)
            matches = matching(path)
            if matches != [path]:
                self.patterns[path] = matches
            if not matches and self.only_looks:
                matches = [path] if glob.escape(path) == path else []
            elif not matches:
                here = sorted(glob.glob(self.below("**/*.jsonl"), recursive=True))
                near = get_close_matches(path, here, n=1)
                fix = f"write {near[0]!r}, or create the file" if near else "create the file, or mend the pattern"
                self.fault(("datasets", name, "files", index), f"dataset {name!r}: no file matches {pattern!r}", fix)
            found.update(dict.fromkeys(matches))
        return Dataset(name=name, files=tuple(found), mark=self.mark(("datasets", name)))

    def model(self, name: str, entry: Mapping[str, Any], bases: Mapping[str, Base], datasets: Mapping[str, Dataset]) -> Model:
        at = ("models", name)
        if name == MARKERS:
            self.fault(at, f"model {name!r}: build/{MARKERS} is where the markers of datasets are", "give the model another name")
        if entry["base"] not in bases:
            self.fault((*at, "base"), f"model {name!r}: unknown base {entry['base']!r}", nearest(entry["base"], bases))
        for index, dataset in enumerate(entry.get("data", [])):
            if dataset not in datasets:
                self.fault((*at, "data", index), f"model {name!r}: unknown dataset {dataset!r}", nearest(dataset, datasets))
        if "adapter" in entry:
            for key in ("data", "train"):
                if key in entry:
                    self.fault(
                        (*at, key), f"model {name!r}: {key} beside adapter: an adapter that is there is not trained", f"remove adapter or {key}"
                    )
        elif "data" not in entry:
            self.fault(at, f"model {name!r}: neither data nor adapter", "add `data: [DATASET]`, or `adapter: FOLDER`")
        train = self.train(name, entry)
        default, own = self.value.get("defaults", {}).get("serve", {}), entry.get("serve", {})
        serve = {**default, **own, "parameters": {**default.get("parameters", {}), **own.get("parameters", {})}}
        return Model(
            name=name,
            base=bases.get(entry["base"]) or Base(name="", gguf="", hf=None, mark=self.mark(at)),
            data=tuple(datasets[dataset] for dataset in entry.get("data", []) if dataset in datasets),
            train=train,
            adapter=self.below(entry["adapter"]) if "adapter" in entry else None,
            serve=Serve(**{"system": train.system, **serve}),
            tags=tuple(entry.get("tags", ())),
            mark=self.mark(at),
        )

    def train(self, name: str, entry: Mapping[str, Any]) -> Train:
        own = entry.get("train", {})
        settings = {**self.value.get("defaults", {}).get("train", {}), **own}
        if settings.get("trainer") != "command" and "command" not in own:
            settings.pop("command", None)  # of a default that this model does not train by
        gpus, pinned = settings.pop("resources", {}).get("gpu", 1), settings.pop("pin", None)
        train = Train(**{key: _plain(key, value) for key, value in settings.items()}, gpus=int(gpus), pins_versions=pinned == "versions")
        at: KeyPath = ("models", name, "train", "trainer")
        if train.trainer not in self.trainers:
            at = at if at in self.lines else ("defaults", "train", "trainer")
            fix = f"{nearest(train.trainer, self.trainers)}, or install a package that provides {train.trainer!r}"
            self.fault(at, f"model {name!r}: unknown trainer {train.trainer!r}", fix)
        elif (train.trainer == "command") != bool(train.command):
            text = "trainer 'command' without a command" if train.trainer == "command" else f"a command for trainer {train.trainer!r}"
            self.fault(("models", name, "train"), f"model {name!r}: {text}", "write `trainer: command` and `command: [PROGRAM, ARGUMENT, ...]`")
        return train

    def below(self, path: str) -> str:
        """The path as seen from the working directory, with slashes."""
        return (self.path.parent / path).as_posix()

    def unused(self, models: Iterable[Model], bases: Mapping[str, Base], datasets: Mapping[str, Dataset]) -> Iterator[Fault]:
        used = {("base", model.base.name) for model in models}
        used |= {("dataset", dataset.name) for model in models for dataset in model.data}
        for kind, entries in (("base", bases), ("dataset", datasets)):
            for name, entry in entries.items():
                if (kind, name) not in used:
                    yield Fault(mark=entry.mark, text=f"warning: no model uses the {kind} {name!r}")
