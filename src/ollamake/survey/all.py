"""Everything that a report shows, gathered and written: what has not changed since the last one is neither looked at nor written again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from ollamake.digest import digest_value
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.locks import wait_for_lock
from ollamake.plan import Planned, planned
from ollamake.report import pages
from ollamake.report.facts import INDEX, CatalogFacts, DatasetRow, Growth, Row, dataset_page, model_page
from ollamake.sights import Sights
from ollamake.state.files import LOCAL, remedy
from ollamake.state.receipts import moment
from ollamake.survey.ground import Ground, Looks
from ollamake.survey.growth import growths, head
from ollamake.survey.kept import Kept, OfDataset, OfModel, digest_of, read_kept, write_kept
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


def write_report(catalogs: Sequence[tuple[Sights, tuple[Step, ...]]]) -> Reported:
    """Write what has changed of the report of these catalogs. Raises BuildError and OSError."""
    with _alone():
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
        self.began = time.time_ns()
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
        rows: list[Row] = []
        tables: list[DatasetRow] = []
        models, datasets = {}, {}
        growth = self._growth()
        for ground in self.grounds:
            for name, of_model, of_dataset in self._of(ground, growth):
                if of_model is not None:
                    models[name] = of_model
                    rows.append(of_model.row)
                if of_dataset is not None:
                    datasets[name] = of_dataset
                    tables.append(of_dataset.row)
        self._assets()
        facts = replace(self.about, models=tuple(rows), datasets=tuple(tables))
        self.site.put(INDEX, digest_of(replace(facts, made="")), lambda: pages.catalog_page(facts))
        self.site.sweep()
        self.site.before.clear()
        is_sure = self.looks.are_old(self.began)  # else a later change may not be seen by the signatures
        self.kept.models, self.kept.datasets = (models, datasets) if is_sure else ({}, {})
        return Reported(
            path=str(self.site.folder / INDEX),
            models=len(rows),
            datasets=len(tables),
            stale=sum(row.state != "fresh" for row in rows),
            written=tuple(self.site.written),
            removed=tuple(self.site.removed),
        )

    def _of(self, ground: Ground, growth: Mapping[str, tuple[Growth, ...]]) -> Iterator[tuple[str, OfModel | None, OfDataset | None]]:
        """The lines of one catalog, its pages written."""
        shared = self._shared(ground)
        keys = {name: ground.key_of_model(name) + shared for name in ground.models}
        anew = [name for name, key in keys.items() if not self._is_known(self.kept.models.get(name), key, model_page(name))]
        rows = {name: self.kept.models[name].row for name in keys if name not in set(anew)}
        states = {name: self._readers(ground, name, rows) for name in ground.datasets} if not anew else {}
        plans = _plans(ground, anew, ()) if anew else {}
        if anew:
            rows.update(self._models(ground, anew, plans))
            states = {name: self._readers(ground, name, rows) for name in ground.datasets}
        for name, key in keys.items():
            if name not in anew:
                self.site.keep(model_page(name))
            yield name, OfModel(key, rows[name]), None
        yield from self._datasets(ground, states, growth, shared)

    def _is_known(self, known: OfModel | OfDataset | None, key: str, page: str) -> bool:
        return known is not None and known.key == key and self.site.is_there(page)

    def _models(self, ground: Ground, names: Sequence[str], plans: Mapping[str, Planned]) -> Mapping[str, Row]:
        from ollamake.standing import standings
        from ollamake.survey.models import model_facts, row_of

        stands: dict[str, list] = {name: [] for name in names}
        for one in standings(names, ground.foresight, ground.needed_by(names), list(plans.values())):
            stands[one.model].append(one)
        rows = {}
        for name in names:
            rows[name] = row_of(ground, name, stands[name])
            own = {id_: plans[id_] for id_ in ground.needed(name) if id_ in plans}
            facts = model_facts(ground, rows[name], stands[name], own)
            self.site.put(model_page(name), digest_of(facts), lambda facts=facts: pages.model_page_of(facts, self.about))
        return rows

    def _datasets(
        self, ground: Ground, states: Mapping[str, Mapping[str, str]], growth: Mapping[str, tuple[Growth, ...]], shared: str
    ) -> Iterator[tuple[str, None, OfDataset]]:
        keys = {name: ground.key_of_dataset(name, states[name], growth.get(name)) + shared for name in ground.datasets}
        anew = [name for name, key in keys.items() if not self._is_known(self.kept.datasets.get(name), key, dataset_page(name))]
        plans = _plans(ground, (), anew) if anew else {}
        for name, key in keys.items():
            if name not in anew:
                self.site.keep(dataset_page(name))
                yield name, None, OfDataset(key, self.kept.datasets[name].row)
                continue
            from ollamake.survey.datasets import dataset_facts

            facts = dataset_facts(ground, name, plans.get(f"validate:{name}"), states[name], growth.get(name, ()))
            self.site.put(dataset_page(name), digest_of(facts), lambda facts=facts: pages.dataset_page_of(facts, self.about))
            yield name, None, OfDataset(key, facts.row)

    def _readers(self, ground: Ground, name: str, rows: Mapping[str, Row]) -> Mapping[str, str]:
        return {model.name: rows[model.name].state for model in ground.readers.get(name, ())}

    def _assets(self) -> None:
        """What the pages load. Their digests are not asked where they are there: `form` names another version of them."""
        known = [path for path in self.site.before if path.startswith("assets/")]
        if known and all(map(self.site.is_there, known)):
            for path in known:
                self.site.keep(path)
            return
        for path, content in pages.assets():
            self.site.put(path, digest_of(content), lambda content=content: content)

    def _shared(self, ground: Ground) -> str:
        """What is another where something changed that each page may show."""
        catalog = ground.sights.catalog
        facts = [catalog.digests, catalog.environment, catalog.policy, catalog.hosts, [host.name for host in ground.sights.hosts]]
        facts += [[host.expected_version for host in ground.sights.hosts], self.about.title, _versions(ground)]
        return digest_value([*map(_plain, facts)])[7:23]

    def _growth(self) -> Mapping[str, tuple[Growth, ...]]:
        """How the datasets grew, which only another commit, or another catalog, can change."""
        files = {name: step.reads for ground in self.grounds for name, step in ground.datasets.items()}
        growing = digest_value({name: list(paths) for name, paths in files.items()})
        if (self.kept.head, self.kept.growing) != (self.about.commit, growing):
            locks = {os.path.relpath(ground.sights.database.path) for ground in self.grounds}
            self.kept.growth = {} if self.about.commit is None else growths(files, locks)
            self.kept.head, self.kept.growing = self.about.commit, growing
        return self.kept.growth


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value


def _versions(ground: Ground) -> list[object]:
    """Those of trainers of which another one trains again."""
    pinned = {step.subject.train.trainer: step for step in ground.steps if step.stage == "train" and ground.sights.pinned(step)}
    return [[name, dict(ground.sights.pinned(step))] for name, step in sorted(pinned.items())]


def _plans(ground: Ground, models: Iterable[str], datasets: Iterable[str]) -> dict[str, Planned]:
    return {plan.step.id: plan for plan in planned(ground.needed_by(models, datasets), ground.foresight)}
