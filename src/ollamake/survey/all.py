"""Everything that a report shows, gathered and written: what has not changed since the last one is neither looked at nor written again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from ollamake.digest import digest_value
from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.graph import Step
from ollamake.locks import wait_for_lock
from ollamake.moments import moment
from ollamake.report import pages
from ollamake.report.facts import INDEX, CatalogFacts, Growth, dataset_page, model_page
from ollamake.sights import Sights
from ollamake.state.files import LOCAL, remedy
from ollamake.survey.ground import Ground, Looks
from ollamake.survey.growth import growths, head
from ollamake.survey.kept import Kept, OfDataset, OfModel, digest_of, read_kept, write_kept
from ollamake.survey.site import REPORT, Site

_Line = TypeVar("_Line", OfModel, OfDataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A report that was written."""

    path: str  # of its first page
    models: int
    datasets: int
    stale: int  # models
    written: tuple[str, ...]  # pages, by their paths in the report
    removed: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """For programs."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "written": list(self.written), "removed": list(self.removed)}


def write_report(catalogs: Sequence[tuple[Sights, tuple[Step, ...]]]) -> Reported:
    """Write what has changed of the report of these catalogs. Raises BuildError and OSError."""
    with _alone():
        _keep_templates()
        kept = read_kept()
        site = Site(kept.pages)
        try:
            return _Writing(catalogs, kept, site).report()
        finally:
            kept.pages = {**site.before, **site.pages}
            _leave(kept)


@contextmanager
def _alone() -> Iterator[None]:
    """Within this, no other report is written in this repo."""
    try:
        Path(LOCAL).mkdir(exist_ok=True)
        with Path(LOCAL, "report.lock").open("a", encoding="utf-8") as file:
            if os.name == "posix":
                wait_for_lock(file)
            yield
    except OSError as error:
        msg = f"{error.filename or REPORT}: {error.strerror or error}"
        raise BuildError(msg, fix=f"{remedy(error)}, then run `doit report` again") from error


def _keep_templates() -> None:
    """Have compiled templates kept for this user, where that can be done; in no repo: what a clone brings is not run."""
    folder = cache_folder() / "templates"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            pages.keep_compiled(str(folder))


def _leave(kept: Kept) -> None:
    try:
        write_kept(kept)
    except OSError:  # then the next report looks at all of it
        return


class _Writing:
    def __init__(self, catalogs: Sequence[tuple[Sights, tuple[Step, ...]]], kept: Kept, site: Site) -> None:
        self.kept, self.site = kept, site
        self.looks = Looks()
        self.grounds = [Ground(sights=sights, steps=steps, looks=self.looks) for sights, steps in catalogs]
        self.about = CatalogFacts(
            title=Path.cwd().name,
            path=", ".join(ground.sights.catalog.path for ground in self.grounds),
            made=moment(),
            version=version("ollamake"),
            commit=head(),
            models=(),
            datasets=(),
        )

    def report(self) -> Reported:
        models: dict[str, OfModel] = {}
        datasets: dict[str, OfDataset] = {}
        growth = self._growth()
        for ground in self.grounds:
            shared = self._shared(ground)
            models.update(self._models(ground, shared))
            datasets.update(self._datasets(ground, models, growth, shared))
        rows, tables = tuple(one.row for one in models.values()), tuple(one.row for one in datasets.values())
        self._assets()
        facts = replace(self.about, models=rows, datasets=tables)
        self.site.put(INDEX, digest_of(replace(facts, made="")), lambda: pages.catalog_page(facts))
        self.site.sweep()
        self.site.before.clear()
        self.kept.models, self.kept.datasets = models, datasets
        return Reported(
            path=str(self.site.folder / INDEX),
            models=len(rows),
            datasets=len(tables),
            stale=sum(row.state != "fresh" for row in rows),
            written=tuple(self.site.written),
            removed=tuple(self.site.removed),
        )

    def _models(self, ground: Ground, shared: str) -> dict[str, OfModel]:
        """The models of one catalog, by their names, their pages written."""
        keys = {name: ground.key_of_model(name) + shared for name in ground.models}
        known = {name: one for name, key in keys.items() if (one := self._known(self.kept.models.get(name), key, model_page(name))) is not None}
        anew = [name for name in keys if name not in known]
        if anew:
            from ollamake.survey.models import facts_of_models

            for facts in facts_of_models(ground, anew):
                name = facts.row.name
                self.site.put(model_page(name), digest_of(facts), partial(pages.model_page_of, facts, self.about))
                known[name] = OfModel(keys[name], facts.row)
        return {name: known[name] for name in keys}

    def _datasets(self, ground: Ground, rows: Mapping[str, OfModel], growth: Mapping[str, tuple[Growth, ...]], shared: str) -> dict[str, OfDataset]:
        """The datasets of one catalog, by their names, their pages written."""
        readers = {name: {model.name: rows[model.name].row.state for model in ground.readers.get(name, ())} for name in ground.datasets}
        keys = {name: ground.key_of_dataset(name, readers[name], growth.get(name)) + shared for name in ground.datasets}
        known = {name: one for name, key in keys.items() if (one := self._known(self.kept.datasets.get(name), key, dataset_page(name))) is not None}
        anew = [name for name in keys if name not in known]
        if anew:
            from ollamake.survey.datasets import facts_of_datasets

            for facts in facts_of_datasets(ground, anew, readers, growth):
                name = facts.row.name
                self.site.put(dataset_page(name), digest_of(facts), partial(pages.dataset_page_of, facts, self.about))
                known[name] = OfDataset(keys[name], facts.row)
        return {name: known[name] for name in keys}

    def _known(self, before: _Line | None, key: str, page: str) -> _Line | None:
        """What is known of a model or dataset, where nothing of it changed and its page is there; the page stays then."""
        if before is None or before.key != key or not self.site.is_there(page):
            return None
        self.site.keep(page)
        return before

    def _assets(self) -> None:
        """What the pages load. Their digests are not asked where they are there: `form` names another version of them."""
        known = [path for path in self.site.before if path.startswith("assets/")]
        if known and all(map(self.site.is_there, known)):
            for path in known:
                self.site.keep(path)
            return
        for path, content in pages.assets():
            self.site.put(path, digest_of(content), partial(bytes, content))

    def _shared(self, ground: Ground) -> str:
        """What is another where something changed that each page may show."""
        catalog = ground.sights.catalog
        said = [dict(catalog.digests), dict(catalog.environment), dict(catalog.policy), list(catalog.hosts), self.about.title, self.about.path]
        servers = [[host.name, host.expected_version] for host in ground.sights.hosts]
        return digest_value([said, servers, _versions(ground)])[7:23]

    def _growth(self) -> Mapping[str, tuple[Growth, ...]]:
        """How the datasets grew, which only another commit, or another catalog, can change."""
        files = {name: step.reads for ground in self.grounds for name, step in ground.datasets.items()}
        growing = digest_value({name: list(paths) for name, paths in files.items()})
        if (self.kept.head, self.kept.growing) != (self.about.commit, growing):
            locks = {os.path.relpath(ground.sights.database.path) for ground in self.grounds}
            self.kept.growth = {} if self.about.commit is None else growths(files, locks)
            self.kept.head, self.kept.growing = self.about.commit, growing
        return self.kept.growth


def _versions(ground: Ground) -> list[object]:
    """Those of trainers of which another one trains again."""
    pinned = {str(step.keys["train.trainer"]): step for step in ground.steps if step.stage == "train" and ground.sights.pinned(step)}
    return [[name, dict(ground.sights.pinned(step))] for name, step in sorted(pinned.items())]
