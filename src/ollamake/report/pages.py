"""Facts -> HTML. One function a kind of page; what it returns is whole, and needs the files of `assets()` beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ollamake.report import texts
from ollamake.report.facts import INDEX, CatalogFacts, DatasetFacts, DatasetRow, ModelFacts, Row, dataset_page, model_page

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
# As strict as a page from file:// can have it. 'self' is the scheme of files there, in Chromium and in Firefox. Digests (`integrity`) would
# refuse all: browsers check them of what came by CORS alone, which no file does. Nothing may become code from a text: there are no trusted types.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


class About(Protocol):
    """What each page says of the report. Nothing that changes from one report to the next: a page is written again where its facts changed."""

    @property
    def title(self) -> str:
        """The repo's folder."""

    @property
    def path(self) -> str:
        """Of the catalog."""

    @property
    def version(self) -> str:
        """Of ollamake."""


def model_row(row: Row) -> str:
    """A model in the table of the first page."""
    from ollamake.report import rows  # where no page is written, it is not needed

    return rows.model_row(row)


def dataset_row(row: DatasetRow) -> str:
    """A dataset in the table of the first page."""
    from ollamake.report import rows

    return rows.dataset_row(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Those of the first page's tables, which were written with the pages that they lead to."""

    models: Sequence[str]
    datasets: Sequence[str]


def catalog_page(facts: CatalogFacts, rows: Rows | None = None) -> str:
    """The first page, `index.html`. `rows`: as `model_row` and `dataset_row` write them."""
    from markupsafe import Markup

    from ollamake.report import charts

    rows = rows or Rows(models=list(map(model_row, facts.models)), datasets=list(map(dataset_row, facts.datasets)))
    values = {"counts": charts.counts(facts), "choices": charts.choices(facts)}
    models, datasets = Markup("".join(rows.models)), Markup("".join(rows.datasets))  # noqa: S704 (each value was escaped)
    return _page("catalog.html.j2", INDEX, facts, facts=facts, models=models, datasets=datasets, **values)


def model_page_of(facts: ModelFacts, about: About) -> str:
    """A model's page; it belongs at `facts.model_page(name)`."""
    from ollamake.report import charts

    values = {"plots": charts.plots(facts), "trainings": charts.trainings(facts), "graph": charts.graph(facts), "before": charts.before(facts)}
    return _page("model.html.j2", model_page(facts.row.name), about, facts=facts, **values)


def dataset_page_of(facts: DatasetFacts, about: About) -> str:
    """A dataset's page; it belongs at `facts.dataset_page(name)`."""
    from ollamake.report import charts

    lengths, growth = [charts.histogram(one) for one in facts.lengths], charts.growth(facts.growth)
    return _page("dataset.html.j2", dataset_page(facts.row.name), about, facts=facts, lengths=lengths, growth=growth)


def assets() -> Iterator[tuple[str, bytes]]:
    """What the pages load: the path in the report, and the bytes. The licences of others' files are among them."""
    folder = HERE / "assets"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"assets/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _page(template: str, page: str, about: About, **values: Any) -> str:
    root = "../" * page.count("/")
    return texts.clean(_templates().get_template(template).render(root=root, about=about, policy=POLICY, **values))


_compiled: list[str] = []  # the folder of compiled templates, where there is one


def keep_compiled(folder: str) -> None:
    """Have the templates compiled once: what comes of it is kept in this folder, which is there. To compile them takes longer than to write some pages."""
    _compiled[:] = [folder]


def compiled() -> str | None:
    """That folder."""
    return _compiled[0] if _compiled else None


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined  # slower to import than to use

    from ollamake.report import rows

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=FileSystemBytecodeCache(_compiled[0]) if _compiled else None,
        finalize=texts.bounded,
    )
    made.filters.update(
        {
            "address": texts.address,
            "at": texts.at,
            "counted": texts.counted,
            "cut": texts.cut,
            "number": texts.number,
            "score": texts.score,
            "state": rows.state,
            "there": rows.there,
            "short": texts.short,
            "short_text": texts.short_text,
            "size": texts.size,
        }
    )
    made.tests["digest"] = texts.is_digest
    made.globals.update(model_page=lambda name: texts.address(model_page(name)), dataset_page=lambda name: texts.address(dataset_page(name)))
    return made
