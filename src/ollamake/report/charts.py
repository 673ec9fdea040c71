"""Facts -> what is drawn: positions in percent for the SVG of a page, JSON for its scripts, counts and choices. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ollamake.report.facts import CatalogFacts, Curve, Growth, Lengths, ModelFacts
from ollamake.report.texts import at, clean, counted, number, places, score, short, short_text, size

if TYPE_CHECKING:
    from markupsafe import Markup

FRESH = "fresh"
BEYOND = 1.5  # a limit farther off than so many times the longest record would press all bars into a corner


class Tick(Struct, frozen=True, kw_only=True):
    """A place on an axis, in percent, and what is written there."""

    place: float
    text: str


class Bar(Struct, frozen=True, kw_only=True):
    """A bar of a histogram; places in percent, from the left and from the top."""

    left: float
    width: float
    top: float
    height: float
    text: str
    count: int
    is_over: bool  # beyond the limit


class Histogram(Struct, frozen=True, kw_only=True):
    """How long records are for one base, as bars."""

    facts: Lengths
    bars: tuple[Bar, ...]
    limit_at: float | None  # None: it is not in the picture
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


class Training(Struct, frozen=True, kw_only=True):
    """A curve in numbers, for those who don't see the plot."""

    label: str
    steps: str
    first: str
    last: str
    least: str
    held_out: str
    rows: tuple[tuple[str, str, str], ...]  # step, loss, learning rate


class Rise(Struct, frozen=True, kw_only=True):
    """A dataset's growth as a line; `points` are of an SVG of 100 by 100."""

    points: str
    dots: tuple[tuple[float, float, str], ...]
    up: tuple[Tick, ...]
    first: str
    last: str


def counts(facts: CatalogFacts) -> dict[str, Any]:
    """What the first page begins with."""
    stale = Counter(row.state for row in facts.models if row.state != FRESH)
    there = Counter(host.there for row in facts.models for host in row.hosts)
    hosts = list(dict.fromkeys(host.host for row in facts.models for host in row.hosts))
    return {"stale": sum(stale.values()), "fresh": len(facts.models) - sum(stale.values()), "there": dict(there), "hosts": hosts}


def choices(facts: CatalogFacts) -> dict[str, list[str]]:
    """What models may be filtered by."""
    rows = facts.models
    return {
        "state": sorted({row.state for row in rows} - {FRESH}),
        "there": sorted({word for row in rows for host in row.hosts for word in (host.there, host.candidate) if word}),
        "base": sorted({row.base for row in rows}),
        "data": sorted({name for row in rows for name in row.data}),
        "tag": sorted({tag for row in rows for tag in row.tags}),
    }


def plots(facts: ModelFacts) -> Markup | None:
    """The curves for the script that plots them; None where there are none."""
    told = [curve for curve in facts.curves if curve.steps]
    return _json([_curve(curve) for curve in told]) if told else None


def _label(curve: Curve) -> str:
    return "now" if curve.is_current else at(curve.trained) if curve.trained else curve.label


def trainings(facts: ModelFacts) -> list[Training]:
    """The curves in numbers: some of their steps, the first and the last among them."""
    return [_training(curve, is_first=not place) for place, curve in enumerate(facts.curves) if curve.steps]


def _training(curve: Curve, *, is_first: bool) -> Training:
    known = [loss for loss in curve.loss if loss is not None]
    return Training(
        label=_label(curve),
        steps=number(curve.steps[-1]),
        first=score(known[0] if known else None),
        last=score(known[-1] if known else None),
        least=score(min(known, default=None)),
        held_out=score(curve.held_out_loss[-1] if curve.held_out_loss else None),
        rows=tuple(
            (number(curve.steps[place]), score(curve.loss[place]), score(curve.learning_rate[place])) for place in places(curve.steps) if is_first
        ),
    )


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "label": clean(short_text(_label(curve))),
        "current": curve.is_current,
        "steps": curve.steps,
        "loss": curve.loss,
        "rate": curve.learning_rate,
        "heldSteps": curve.held_out_steps,
        "held": curve.held_out_loss,
    }


def anchors(facts: ModelFacts) -> dict[str, str]:
    """Where on the page the facts of each node are."""
    return {node.id: f"node-{place}" for place, node in enumerate(facts.nodes, 1)}


def graph(facts: ModelFacts) -> Markup | None:
    """The lineage for the script that draws it."""
    if not facts.nodes:
        return None
    known = anchors(facts)
    nodes = [
        {"id": known[node.id], "kind": node.kind, "title": clean(short_text(node.title)), "stale": bool(node.reasons), "page": node.page is not None}
        for node in facts.nodes
    ]
    return _json({"nodes": nodes, "edges": [[known[one], known[other]] for one, other in facts.edges if {one, other} <= known.keys()]})


def before(facts: ModelFacts) -> dict[str, list[tuple[str, str]]]:
    """Of each node's id: title and anchor of what it is made from."""
    known, titles = anchors(facts), {node.id: node.title for node in facts.nodes}
    made: dict[str, list[tuple[str, str]]] = {node.id: [] for node in facts.nodes}
    for one, other in facts.edges:
        if one in titles and other in made:
            made[other].append((titles[one], known[one]))
    return made


def histogram(facts: Lengths) -> Histogram:
    """Bars of one base, and the line of its limit where it is near enough to be seen."""
    longest = max(facts.edges[-1] if facts.edges else 0, facts.longest, 1)
    is_near = facts.limit is not None and facts.limit <= longest * BEYOND
    end = max(longest, facts.limit or 0) * 1.04 if is_near else longest
    most = max(facts.counts, default=0) or 1
    top = _ticks(most)[-1]
    bars = []
    for first, after, count in zip(facts.edges, facts.edges[1:], facts.counts, strict=False):
        height = max(100 * count / top, 0.8) if count else 0.0  # one record among thousands is seen
        bars.append(
            Bar(
                left=round(100 * first / end, 2),
                width=round(max(100 * (after - first) / end - 0.25, 0.2), 2),
                top=round(100 - height, 2),
                height=round(height, 2),
                text=f"{first} to {after} tokens: {counted(count, 'record')}",
                count=count,
                is_over=facts.limit is not None and first >= facts.limit,
            )
        )
    across = tuple(Tick(place=round(100 * value / end, 2), text=number(value)) for value in _ticks(end) if value <= end)
    up = tuple(Tick(place=round(100 - 100 * value / top, 2), text=number(value)) for value in _ticks(most))
    limit_at = round(100 * facts.limit / end, 2) if is_near and facts.limit is not None else None
    return Histogram(facts=facts, bars=tuple(bars), limit_at=limit_at, across=across, up=up)


def growth(commits: Sequence[Growth]) -> Rise | None:
    """A line of records over commits, or of bytes where records were not counted; None of fewer than two."""
    counts = [one.records for one in commits]
    known = [count for count in counts if count is not None]
    values = known if len(known) == len(counts) else [one.bytes for one in commits]
    if len(values) < 2:
        return None
    words = number if values is known else size
    ticks = _ticks(max(values) or 1)
    places = [(round(100 * place / (len(values) - 1), 2), round(100 - 100 * value / ticks[-1], 2)) for place, value in enumerate(values)]
    texts = [f"{at(one.at)[:10]} {short(one.commit)}: {words(value)}" for one, value in zip(commits, values, strict=True)]
    return Rise(
        points=" ".join(f"{across},{down}" for across, down in places),
        dots=tuple((across, down, text) for (across, down), text in zip(places, texts, strict=True)),
        up=tuple(Tick(place=round(100 - 100 * value / ticks[-1], 2), text=words(value)) for value in ticks),
        first=at(commits[0].at)[:10],
        last=at(commits[-1].at)[:10],
    )


def _ticks(most: float) -> list[int]:
    """From 0 to at least `most`, in four or five round steps of whole numbers."""
    rough = max(most / 4, 1)
    unit = 10 ** floor(log10(rough))
    step = next(int(unit * times) for times in (1, 2, 5, 10) if unit * times >= rough)
    return [step * place for place in range(ceil(most / step) + 1)]


def _json(value: object) -> Markup:
    """JSON that ends no script element, whatever stands in it."""
    from markupsafe import Markup

    text = msgspec.json.encode(value).decode()
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 (nothing of it is markup any more)
