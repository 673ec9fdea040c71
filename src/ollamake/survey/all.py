"""Everything that a report shows, gathered and written: what has not changed since the last one is neither looked at nor written again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from msgspec.structs import replace

from ollamake.errors import BuildError
from ollamake.folders import cache_folder
from ollamake.loading import database
from ollamake.locks import wait_for_lock
from ollamake.moments import moment
from ollamake.report import pages
from ollamake.report.facts import INDEX, CatalogFacts, Growth, dataset_page, model_page
from ollamake.state.files import LOCAL, remedy
from ollamake.survey.commits import head
from ollamake.survey.ground import Ground, Looks
from ollamake.survey.kept import Kept, OfDataset, OfModel, digest_of, read_kept, write_kept
from ollamake.survey.press import Head, Press
from ollamake.survey.section import Section
from ollamake.survey.site import REPORT, Site


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


def write_report(paths: Sequence[str]) -> Reported:
    """Write what has changed of the report of these catalogs. Raises BuildError and OSError."""
    with _alone():
        _keep_templates()
        kept = read_kept()
        site = Site(kept.pages)
        try:
            return _Writing(paths, kept, site).report()
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
    def __init__(self, paths: Sequence[str], kept: Kept, site: Site) -> None:
        """Raises BuildError."""
        self.kept, self.site = kept, site
        title, path = Path.cwd().name, ", ".join(paths)
        known = kept.catalogs if kept.about == [title, path] else {}
        looks = Looks()
        self.sections = [Section(path, known.get(path), looks) for path in paths]
        self.head = Head(title, path, version("ollamake"), pages.compiled(), str(site.folder))
        self.about = CatalogFacts(title=title, path=path, made=moment(), version=version("ollamake"), commit=head(), models=(), datasets=())

    def report(self) -> Reported:
        growth = self._growth()
        catalogs = {section.path: self._catalog(section, growth) for section in self.sections}
        models = [one for some, _ in catalogs.values() for one in some.values()]
        datasets = [one for _, some in catalogs.values() for one in some.values()]
        self._assets()
        facts = replace(self.about, models=tuple(one.row for one in models), datasets=tuple(one.row for one in datasets))
        rows = pages.Rows(models=[one.line for one in models], datasets=[one.line for one in datasets])
        self.site.put(INDEX, digest_of(replace(facts, made="")), lambda: pages.catalog_page(facts, rows))
        self.site.sweep()
        self.site.before.clear()
        left = {section.path: section.kept(*catalogs[section.path]) for section in self.sections}
        self.kept.about = [self.about.title, self.about.path]
        self.kept.catalogs = {path: one for path, one in left.items() if one is not None}
        return Reported(
            path=str(self.site.folder / INDEX),
            models=len(models),
            datasets=len(datasets),
            stale=sum(one.row.state != "fresh" for one in models),
            written=tuple(self.site.written),
            removed=tuple(self.site.removed),
        )

    def _catalog(self, section: Section, growth: Mapping[str, tuple[Growth, ...]]) -> tuple[dict[str, OfModel], dict[str, OfDataset]]:
        """The models and datasets of a catalog, in its order, their pages written."""
        models = dict(section.before.models) if section.before else {}
        datasets = dict(section.before.datasets) if section.before else {}
        anew, also = section.changed(self.site.is_there, growth)
        if anew or also:
            ground = section.ground(anew, also)
            with Press(self.site, self.head, len(anew) + len(also)) as press:
                models.update(self._models(ground, anew, press) if anew else {})
                states = {name: {model: models[model].row.state for model in readers} for name, readers in section.readers.items()}
                also += [name for name, one in datasets.items() if one.readers != states[name] and name not in also]
                datasets.update(self._datasets(ground, also, press, states, growth) if also else {})
                press.finish()
        for page in (*map(model_page, section.models), *map(dataset_page, section.readers)):
            if page not in self.site.pages:
                self.site.keep(page)
        return {name: models[name] for name in section.models}, {name: datasets[name] for name in section.readers}

    def _models(self, ground: Ground, names: Sequence[str], press: Press) -> Iterator[tuple[str, OfModel]]:
        """These models, their pages written."""
        from ollamake.survey.models import facts_of_models

        seen = {name: ground.seen_of_model(name) for name in names}  # before anything of it is read
        for facts in facts_of_models(ground, names):
            press.put(facts)
            name = facts.row.name
            yield name, OfModel(seen[name], *ground.needs(name), facts.row, pages.model_row(facts.row))

    def _datasets(
        self, ground: Ground, names: Sequence[str], press: Press, readers: Mapping[str, dict[str, str]], growth: Mapping[str, tuple[Growth, ...]]
    ) -> Iterator[tuple[str, OfDataset]]:
        """These datasets, their pages written."""
        from ollamake.survey.datasets import facts_of_datasets

        seen = {name: ground.seen_of_dataset(name) for name in names}
        for facts in facts_of_datasets(ground, names, readers, growth):
            press.put(facts)
            name = facts.row.name
            reads, grown = list(ground.datasets[name].reads), digest_of(growth.get(name, ()))
            yield name, OfDataset(seen[name], reads, readers[name], grown, facts.row, pages.dataset_row(facts.row))

    def _assets(self) -> None:
        """What the pages load. Their digests are not asked where they are there: `form` names another version of them."""
        known = [path for path in self.site.before if path.startswith("assets/")]
        if known and all(map(self.site.is_there, known)):
            for path in known:
                self.site.keep(path)
            return
        for path, content in pages.assets():
            self.site.put(path, digest_of(content), partial(bytes, content))

    def _growth(self) -> Mapping[str, tuple[Growth, ...]]:
        """How the datasets grew, which only another commit, or another catalog, can change."""
        files = {name: list(paths) for section in self.sections for name, paths in section.reads.items()}
        growing = digest_of(files)
        if (self.kept.head, self.kept.growing) != (self.about.commit, growing):
            from ollamake.survey.growth import growths

            locks = {os.path.relpath(database().path)}
            self.kept.growth = {} if self.about.commit is None else growths(files, locks)
            self.kept.head, self.kept.growing = self.about.commit, growing
        return self.kept.growth
