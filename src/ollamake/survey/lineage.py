"""How a model is made, as a graph: datasets -> text -> adapter -> served weights -> model on each server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ollamake.catalog import Dataset, Model
from ollamake.catalog.expanded import told, written
from ollamake.duration import duration
from ollamake.freshness import shown
from ollamake.graph import Step
from ollamake.plan import Planned
from ollamake.report.facts import ADAPTER, BASE, DATASET, MODEL, SERVED, TEXT, Hosted, Node, dataset_page, model_page
from ollamake.stages.served import read_served
from ollamake.state.files import read_object
from ollamake.state.receipts import Receipt
from ollamake.state.versions import short
from ollamake.survey.ground import Ground
from ollamake.survey.told import said, size, when


def lineage(
    ground: Ground, model: Model, plans: Mapping[str, Planned], hosted: Iterable[tuple[Step, Hosted]]
) -> tuple[tuple[Node, ...], tuple[tuple[str, str], ...]]:
    """The nodes, each behind what it is made from, and the edges between them."""
    steps = {step.stage: step for step in ground.own[model.name]}
    nodes: list[Node] = [_base(ground, model)]
    edges: list[tuple[str, str]] = []
    if "convert" in steps:
        for dataset in dict.fromkeys(portion.dataset.name for portion in model.portions):
            nodes.append(_dataset(ground, ground.datasets[dataset], plans))
            edges.append((f"dataset-{dataset}", "text"))
        nodes.append(_text(ground, steps["convert"], plans))
        edges += [("base", "text"), ("text", "adapter")]
    start = model.train.start if model.adapter is None else None
    if start is not None and start.model is not None:
        nodes.append(Node(id="start", kind=ADAPTER, title=f"adapter of {start.model}", facts=(), page=model_page(start.model)))
        edges.append(("start", "adapter"))
    nodes += [_adapter(ground, model, steps, plans), _served(ground, steps["package"], plans)]
    edges += [("base", "adapter"), ("adapter", "served"), ("base", "served")]
    for number, (test, host) in enumerate(hosted, start=1):
        nodes.append(_model(ground, test, host, plans, f"model-{number}"))
        edges.append(("served", f"model-{number}"))
    return tuple(nodes), tuple(edges)


def why(plans: Mapping[str, Planned], *steps: Step) -> tuple[str, ...]:
    """Why these steps will run, or may."""
    return tuple(reason.text for step in steps if step.id in plans for reason in plans[step.id].reasons)


def receipt_facts(receipt: Receipt | None) -> Iterator[tuple[str, str]]:
    """When a step was done, what it took, and of which commit."""
    if receipt is not None:
        yield "made", when(receipt.finished)
        yield "took", duration(receipt.seconds)
        yield "commit", (receipt.commit or "")[:8] + ("+" if (receipt.commit or "").endswith("+") else "")
        if receipt.record.accepted is not None:
            yield "taken as built", receipt.record.accepted


def made_by(step: Step) -> tuple[str, ...]:
    """The files that a package step reads of the adapter, or of weights that were trained whole."""
    assert isinstance(step.subject, Model)
    return tuple(path for path in step.reads if path not in {step.subject.base.gguf, step.subject.serve.imatrix})


def _dataset(ground: Ground, step: Step, plans: Mapping[str, Planned]) -> Node:
    dataset, marker = step.subject, read_object(Path(step.writes[0]))
    assert isinstance(dataset, Dataset)
    records, then, now = marker.get("records"), "", ""
    if step.id in plans:  # what a build last read, and what is there, are two things
        then, now = " of the last build", " now"
    facts = said(
        (
            (f"files{now}", str(len(dataset.files))),
            (f"size{now}", size(ground.looks.sizes(dataset.files))),
            (f"records{then}", str(records) if isinstance(records, int) else ""),
            (f"digest{then}", short(str(marker.get("digest", "")))),
            *receipt_facts(ground.foresight.receipt(step)),
        )
    )
    return Node(id=f"dataset-{step.name}", kind=DATASET, title=step.name, facts=facts, page=dataset_page(step.name), reasons=why(plans, step))


def _text(ground: Ground, step: Step, plans: Mapping[str, Planned]) -> Node:
    receipt = ground.foresight.receipt(step)
    lengths = (receipt.outcome.get("lengths") if receipt else None) or {}
    quantiles = lengths.get("quantiles") or {}
    path = step.writes[0]
    facts = said(
        (
            ("file", path),
            ("records", str(lengths.get("records", ""))),
            ("tokens", ", ".join(f"{name} {count}" for name, count in quantiles.items())),
            ("at most", f"{lengths['max_tokens']} tokens" if "max_tokens" in lengths else ""),
            ("dropped", str(lengths.get("drop") or "")),
            ("truncated", str(lengths.get("truncate") or "")),
            ("size", size(ground.looks.size(path))),
            ("digest", short(receipt.record.targets.get(path, "")) if receipt else ""),
            *receipt_facts(receipt),
        )
    )
    return Node(id="text", kind=TEXT, title="text", facts=facts, reasons=why(plans, step))


def _base(ground: Ground, model: Model) -> Node:
    base = model.base
    facts = said(
        (
            ("file", base.ollama or written(base.gguf)),
            ("trained from", None if base.hf is None else str(told(base.hf))),
            ("size", size(ground.looks.size(base.gguf)) or "it is not here"),
            ("in the catalog", str(base.mark)),
        )
    )
    return Node(id="base", kind=BASE, title=base.name, facts=facts)


def _adapter(ground: Ground, model: Model, steps: Mapping[str, Step], plans: Mapping[str, Planned]) -> Node:
    train = steps.get("train")
    files = made_by(steps["package"])
    receipt = ground.foresight.receipt(train) if train else None
    outcome = receipt.outcome if receipt else {}
    recipe = outcome.get("recipe") or {}
    facts = said(
        (
            ("file", written(files[-1])),
            ("trainer", str(outcome.get("trainer") or (told(model.train.trainer) if train else "given: it was there already"))),
            (
                "recipe",
                ", ".join(f"{key} {shown(recipe[key])}" for key in ("rank", "learning_rate", "epochs", "batch_size", "seed") if key in recipe),
            ),
            ("steps", str(outcome.get("steps") or "")),
            ("from the cache", "yes" if "cache" in outcome else ""),
            ("trained on", str(outcome.get("where") or "")),
            ("size", size(ground.looks.sizes(files)) or "it is not here"),
            ("digest", short((receipt.record.targets if receipt else {}).get(files[-1], ""))),
            *receipt_facts(receipt),
        )
    )
    return Node(id="adapter", kind=ADAPTER, title="adapter", facts=facts, reasons=why(plans, *([train] if train else [])))


def _served(ground: Ground, step: Step, plans: Mapping[str, Planned]) -> Node:
    served = read_served(Path(step.writes[0]))
    kinds = {"adapter": "a GGUF LoRA", "merged": "merged into the base", "split": "merged into the base, in shards"}
    facts = said(
        (
            ("kind", kinds.get(served.kind, served.kind) if served else ""),
            ("size", size(ground.looks.sizes(str(path) for path, _ in served.files)) if served else "not made yet"),
            ("digest", short(served.files[0][1]) if served else ""),
            *receipt_facts(ground.foresight.receipt(step)),
        )
    )
    return Node(id="served", kind=SERVED, title="served weights", facts=facts, reasons=why(plans, step))


def _model(ground: Ground, test: Step, hosted: Hosted, plans: Mapping[str, Planned], id_: str) -> Node:
    register = next(step for step in ground.own[test.name] if step.stage == "register" and step.host == test.host)
    receipt = ground.foresight.receipt(register)
    facts = said(
        (
            ("server", hosted.host),
            ("there", hosted.there),
            ("candidate", hosted.candidate),
            ("digest", short(hosted.digest or "")),
            ("tests", hosted.tests),
            ("Ollama", str(receipt.outcome.get("version", "")) if receipt else ""),
            *receipt_facts(receipt),
        )
    )
    return Node(id=id_, kind=MODEL, title=test.name, facts=facts, reasons=why(plans, register, test))
