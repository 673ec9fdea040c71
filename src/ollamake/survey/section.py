"""One catalog of a report: what of it changed since the last one. No more of it is read than that."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property

from ollamake.catalog.shared import Part
from ollamake.errors import BuildError
from ollamake.loading import Loaded, database, loaded
from ollamake.lora.peft_config import CONFIG
from ollamake.ollama.hosts import Host, ask_all, hosts_of
from ollamake.origin import Origin, facts_of, form_of, manifests, signatures
from ollamake.report.facts import Growth, dataset_page, model_page
from ollamake.say import warn
from ollamake.survey.ground import Ground, Looks, remembered, tags_on
from ollamake.survey.kept import FORMAT, OfCatalog, OfDataset, OfModel, Seen, digest_of

MOST = 0.5  # of the models: where more are wanted, the whole catalog is read as soon


class Section:
    """A catalog, beside what the last report has left of it."""

    def __init__(self, path: str, before: OfCatalog | None, looks: Looks) -> None:
        """`before`: what the last report has left. Raises BuildError."""
        self.path = path
        self.looks = looks
        self.memory = looks.memory(database())  # before any of it is read
        self.asked: tuple[Host, ...] = ()
        self.before = before if before is not None and self._is_same(before.origin) else None
        for warning in self.before.origin.warnings if self.before else map(str, self._whole.warnings):
            warn(warning)

    def _is_same(self, origin: Origin) -> bool:
        try:
            if not origin.is_same_here(form_of(FORMAT)):
                return False
            self.asked = hosts_of(origin.hosts)
            ask_all(self.asked)
            return origin.is_same_beyond(self.asked)
        except (BuildError, OSError):  # said when it is read
            return False

    @cached_property
    def _whole(self) -> Loaded:
        return loaded(self.path, asked=self.asked)

    @cached_property
    def _ground(self) -> Ground:
        """All of it. Raises BuildError."""
        return self._ground_of(self._whole)

    def _ground_of(self, some: Loaded) -> Ground:
        return Ground(sights=some.sights, steps=some.steps, looks=self.looks)

    @cached_property
    def models(self) -> Collection[str]:
        """The names of its models, in the catalog's order."""
        return list(self.before.models if self.before else self._ground.models)

    @cached_property
    def readers(self) -> Mapping[str, Collection[str]]:
        """The datasets, and the models that are trained on each."""
        if self.before:
            return {name: list(one.readers) for name, one in self.before.datasets.items()}
        return {name: [model.name for model in models] for name, models in self._ground.readers.items() if name in self._ground.datasets}

    @cached_property
    def reads(self) -> Mapping[str, Sequence[str]]:
        """The files of each dataset."""
        if self.before:
            return {name: one.reads for name, one in self.before.datasets.items()}
        return {name: step.reads for name, step in self._ground.datasets.items()}

    def changed(self, is_there: Callable[[str], bool], growth: Mapping[str, tuple[Growth, ...]]) -> tuple[list[str], list[str]]:
        """The models and the datasets whose pages may show something else now. `is_there`: is this page as it was left?"""
        if self.before is None:
            return list(self.models), list(self.readers)
        before, tags = self.before, tags_on(self.asked)
        at = self.looks.at
        is_same_memory = {path: at(path) for path in self.memory} == before.memory
        database_now = None if is_same_memory else database()

        def differs(seen: Seen) -> bool:
            for path, sight in seen.files.items():
                if at(path) != sight:
                    return True
            if database_now is None:
                return False
            return remembered(database_now, seen.steps) != seen.remembered or any(at(path) != sight for path, sight in seen.left.items())

        datasets = {name for name, one in before.datasets.items() if differs(one.seen)}
        models = {
            name
            for name, one in before.models.items()
            if differs(one.seen) or not datasets.isdisjoint(one.datasets) or one.seen.tags != [some and some.get(name, {}) for some in tags]
        }
        more: Collection[str] = models
        while more:
            more = {name for name, one in before.models.items() if name not in models and not models.isdisjoint(one.models)}
            models.update(more)
        datasets.update(name for name, one in before.datasets.items() if one.growth != digest_of(growth.get(name, ())))
        return (
            [name for name in before.models if name in models or not is_there(model_page(name))],
            [name for name in before.datasets if name in datasets or not is_there(dataset_page(name))],
        )

    def ground(self, models: Iterable[str], datasets: Iterable[str]) -> Ground:
        """What the facts of these are seen from: with all models that read what these models do, as their state may be shown. Raises BuildError."""
        part = self._part(set(models), set(datasets)) if self.before else None
        if part is None or len(part.models) > MOST * len(self.models):
            return self._ground
        try:
            return self._ground_of(loaded(self.path, part, self.asked))
        except BuildError:  # something else of the catalog is named
            return self._ground

    def _part(self, models: set[str], datasets: set[str]) -> Part:
        assert self.before is not None
        known = self.before
        datasets = datasets.union(*(known.models[name].datasets for name in models))
        models = models.union(*(known.datasets[name].readers for name in datasets if name in known.datasets))
        models = models.union(*(known.models[name].models for name in models))
        return Part(models=models, datasets=datasets.union(*(known.models[name].datasets for name in models)))

    def kept(self, models: dict[str, OfModel], datasets: dict[str, OfDataset]) -> OfCatalog | None:
        """What is left for the next report; None where it has to read all of it."""
        origin = self.before.origin if self.before else self._origin()
        return None if origin is None else OfCatalog(origin, self.memory, models, datasets)

    def _origin(self) -> Origin | None:
        """What the catalog comes from; None where a file of it was written just now."""
        sights = self._whole.sights
        catalog = sights.catalog
        digests = {**catalog.digests, **manifests(catalog)}
        # What is told against a recipe may be told by these.
        configs = [f"{model.adapter}/{CONFIG}" for model in catalog.models if model.adapter is not None]
        configs += [f"{folder}/config.json" for folder in {model.base.hf_folder for model in catalog.models} if folder is not None]
        try:
            files = signatures(digests, filter(os.path.exists, configs))
            if files is None:
                return None
            facts = facts_of(catalog, sights.hosts)
        except (BuildError, OSError):
            return None
        return Origin(**facts, form=form_of(FORMAT), files=files, warnings=list(map(str, self._whole.warnings)))
