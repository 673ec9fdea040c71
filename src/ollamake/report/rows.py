"""Rows of the first page's tables. Written here and not by a template: a thousand of them take a third of the time. `e` escapes each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from ollamake.report.facts import DatasetRow, Hosted, Row, dataset_page, model_page
from ollamake.report.texts import MOST_OF_A_LINE, address, at, number, short, short_text, size

FRESH, FAILED, STALE = "fresh", "failed", "stale"
GOOD, BAD = "latest", {"missing", "replaced by hand"}
NONE = '<span class="none">-</span>'


def e(text: str) -> Markup:
    """The text as HTML, its beginning if it is long."""
    return escape(text if len(text) <= MOST_OF_A_LINE else short_text(text))


def model_row(row: Row) -> str:
    """A model's."""
    tags = "".join(f' <span class="tag">{e(tag)}</span>' for tag in row.tags)
    trained = f'<time datetime="{e(row.trained)}">{e(at(row.trained))}</time>' if row.trained else NONE
    digest = f'<code title="{e(row.digest)}">{e(short(row.digest))}</code>' if row.digest else NONE
    return (
        f'<tr data-state="{e(row.state)}" data-tag="{e(" ".join(row.tags))}"><th scope="row">{_link(model_page(row.name), row.name)}{tags}</th>'
        f"<td>{state(row.state)}</td><td>{e(row.base)}</td><td>{' '.join([_link(dataset_page(name), name) for name in row.data])}</td>"
        f'<td data-v="{e(row.trained or "")}">{trained}</td><td>{digest}</td><td>{_servers(row.hosts)}</td><td>{_tests(row.hosts)}</td>'
        f"{_count(row.adapter_bytes, size(row.adapter_bytes))}{_count(row.served_bytes, size(row.served_bytes))}</tr>\n"
    )


def dataset_row(row: DatasetRow) -> str:
    """A dataset's."""
    return (
        f'<tr><th scope="row">{_link(dataset_page(row.name), row.name)}</th><td>{state(row.state)}</td>'
        f"{_count(row.records, number(row.records))}{_count(row.bytes, size(row.bytes))}{_count(row.files, number(row.files))}"
        f"{_count(row.warnings, number(row.warnings))}{_count(row.readers, number(row.readers))}</tr>\n"
    )


def _count(value: int | None, text: str) -> str:
    return f'<td class="n" data-v="{value or 0}">{text}</td>'


@lru_cache(1024)  # datasets are shared
def _link(page: str, name: str) -> str:
    return f'<a href="{address(page)}">{e(name)}</a>'


@lru_cache(64)
def state(word: str) -> Markup:
    """`fresh`, `failed`, or from which stage on it is stale: a mark by its class, and the word."""
    kind = word if word in {FRESH, FAILED} else STALE
    text = word if word in {FRESH, FAILED, STALE} else f"stale: {word}"
    return Markup(f'<span class="state {kind}">{e(text)}</span>')  # noqa: S704 (escaped)


@lru_cache(64)
def there(word: str) -> Markup:
    """What of a model a server has."""
    kind = "good" if word == GOOD else "bad" if word in BAD else "plain"
    return Markup(f'<span class="there {kind}">{e(word)}</span>')  # noqa: S704 (escaped)


def _servers(hosts: Sequence[Hosted]) -> str:
    """What of a model is on its servers: `latest`, or `2 latest; 1 no answer`."""
    said = Counter([(host.there, host.candidate) for host in hosts])
    texts = [
        f"{f'{count} ' if len(hosts) > 1 else ''}{there(word)}{f', {e(candidate)}' if candidate else ''}" for (word, candidate), count in said.items()
    ]
    return "; ".join(texts) or NONE


def _tests(hosts: Sequence[Hosted]) -> str:
    """What its tests came to: once, where all servers say the same."""
    said = dict.fromkeys([host.tests for host in hosts if host.tests])
    return "; ".join([f'<span class="there bad">{e(text)}</span>' if "failed" in text else e(text) for text in said]) or NONE
