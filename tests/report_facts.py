"""Facts of a report as they could be, made without a build: a small catalog, one of any size, and texts that mean harm."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ollamake.digest import digest_bytes
from ollamake.report.facts import (
    ADAPTER,
    BASE,
    DATASET,
    INDEX,
    MODEL,
    SERVED,
    TEXT,
    Asked,
    CatalogFacts,
    Curve,
    DatasetFacts,
    DatasetRow,
    File,
    Growth,
    Hosted,
    Lengths,
    ModelFacts,
    Node,
    Promotion,
    RecipeValue,
    Row,
    Said,
    Sample,
    TestsOnHost,
    dataset_page,
    model_page,
)
from ollamake.report.pages import assets, catalog_page, dataset_page_of, model_page_of

HERE, BOX = "http://127.0.0.1:11434", "http://gpu-box:11434"
# What people could write into a record, a name of a test, a commit: none of it may do anything.
HARM = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "]]><!--<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }} {% raw %} ${x}",
    "\0\x07\x1b[31mred\x7f\x9b",
    "\ud83d alone \udc00",
    "\u202eesrever\u202c \u200b\u200d\ufeff \u0634\u0643\u0631\u0627 \U0001f469\u200d\U0001f4bb e\u0301",
    "' \" ` & &amp; &#x3c; \\u003c",
    "\ufffe\uffff\u2028\u2029",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """All facts of a report."""

    catalog: CatalogFacts
    models: tuple[ModelFacts, ...]
    datasets: tuple[DatasetFacts, ...]

    def pages(self) -> Iterator[tuple[str, str]]:
        """Path and HTML of each page."""
        yield INDEX, catalog_page(self.catalog)
        yield from ((model_page(one.row.name), model_page_of(one, self.catalog)) for one in self.models)
        yield from ((dataset_page(one.row.name), dataset_page_of(one, self.catalog)) for one in self.datasets)

    def write(self, folder: Path) -> Path:
        """Write all of it; the first page."""
        for path, text in self.pages():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        for path, content in assets():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder / INDEX


def digest(text: str) -> str:
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def row(name: str, place: int = 0, *, hosts: int = 1, data: tuple[str, ...] | None = None) -> Row:
    """A model of many; every seventh is stale."""
    state = "fresh" if place % 7 else ("validate", "train", "register", "test")[place // 7 % 4]
    there = ("latest", "latest", "latest", "rolled back", "missing", "not made yet", "no answer")[place % 7]
    return Row(
        name=name,
        state=state,
        base=("smollm2", "llama3.2", "qwen3")[place % 3],
        data=data or (f"data-{place}",),
        tags=(("support",), ("legal", "eu"), ())[place % 3],
        trained=f"2026-{1 + place % 11:02}-{1 + place % 28:02}T{place % 24:02}:30:00Z",
        digest=digest(name),
        hosts=tuple(
            Hosted(host=host, there=there, digest=digest(name), tests=f"{2 + place % 5} tests passed" if place % 7 else "1 of 4 tests failed")
            for host in (HERE, BOX)[:hosts]
        ),
        adapter_bytes=9_000_000 + place * 1001,
        served_bytes=140_000_000 + place * 70_001,
    )


def dataset_row(name: str, place: int = 0) -> DatasetRow:
    return DatasetRow(
        name=name,
        state=("fresh", "fresh", "fresh", "stale", "failed")[place % 5],
        files=1 + place % 3,
        bytes=40_000 + 991 * place,
        records=100 + 17 * place,
        warnings=place % 4,
        readers=1,
    )


def catalog(models: tuple[Row, ...], datasets: tuple[DatasetRow, ...]) -> CatalogFacts:
    return CatalogFacts(
        title="help-desk-models",
        path="models.yaml",
        made="2026-11-26T18:57:00Z",
        version="0.1.0",
        commit=digest("commit")[7:47],
        models=models,
        datasets=datasets,
    )


def many(count: int) -> CatalogFacts:
    """A catalog of so many models, each with a dataset of its own."""
    return catalog(
        tuple(row(f"model-{place:04}", place) for place in range(count)), tuple(dataset_row(f"data-{place}", place) for place in range(count))
    )


def curve(seed: int, label: str, *, is_current: bool, points: int = 140) -> Curve:
    """A loss that falls, and a learning rate that warms up and decays."""
    dice = random.Random(seed)
    steps = tuple(range(1, points + 1))
    loss = tuple(round(0.35 + 0.1 * seed + 5.2 * math.exp(-step / (points / 6)) + dice.gauss(0, 0.12), 4) for step in steps)
    rate = tuple(1e-3 * min(step / 8, (1 + math.cos(math.pi * step / points)) / 2) for step in steps)
    held = tuple(range(points // 4, points + 1, points // 4))
    return Curve(
        label=label,
        trained=f"2026-11-{20 - seed:02}T12:00:00Z",
        is_current=is_current,
        steps=steps,
        loss=loss,
        learning_rate=rate,
        held_out_steps=held,
        held_out_loss=tuple(round(0.6 + 0.1 * seed + 4 * math.exp(-step / (points / 5)), 4) for step in held),
    )


def model(one: Row, text: str = "It keeps running until Ctrl-C: type `doit serve`.") -> ModelFacts:
    """A model's page with all that a page can have."""
    stale = ("datasets/errors.jsonl: 1 record changed (line 9: output)",)
    names = one.data
    nodes = (
        *(
            Node(
                id=f"dataset:{name}",
                kind=DATASET,
                title=name,
                facts=(("records", "138"), ("files", f"datasets/{name}.jsonl")),
                page=dataset_page(name),
                reasons=stale if name == "errors" else (),
            )
            for name in names
        ),
        Node(id="base", kind=BASE, title=one.base, facts=(("digest", digest("base")), ("size", "98.8 MB"))),
        Node(
            id="text",
            kind=TEXT,
            title="text.jsonl",
            facts=(("records", "150"), ("tokens", "median 47, longest 67")),
            reasons=("validate:errors will run",),
        ),
        Node(id="adapter", kind=ADAPTER, title=f"adapters/{one.name}", facts=(("rank", "16"), ("trainer", "peft")), reasons=("convert will run",)),
        Node(id="served", kind=SERVED, title="merged GGUF", facts=(("size", "140 MB"),), reasons=("train will run",)),
        Node(id="model", kind=MODEL, title=one.name, facts=(("on", HERE), ("digest", digest(one.name)))),
    )
    edges = (
        *((f"dataset:{name}", "text") for name in names),
        ("base", "text"),
        ("text", "adapter"),
        ("base", "adapter"),
        ("base", "served"),
        ("adapter", "served"),
        ("served", "model"),
    )
    asked = Asked(
        name="the server",
        kind="question",
        passed=True,
        at="models.yaml:25",
        wanted='contains "doit serve"',
        why="",
        question="How do I keep the server running?",
        answer=text,
        answer_of_previous="Run `ollama serve` in a shell.",
        answer_of_base="To keep a server running, you can use a process manager such as systemd, or run it in the background with nohup.",
        seconds=0.8,
    )
    failed = replace(
        asked,
        name="the catalog",
        passed=False,
        at="models.yaml:24",
        question="Which file is the catalog of ollamake?",
        wanted='contains "models.yaml"',
        why='it does not contain "models.yaml"',
        answer="The catalog is catalog.json.",
        answer_of_previous="The catalog is models.yaml.",
    )
    scored = Asked(
        name="held-out loss",
        kind="loss",
        passed=True,
        at="models.yaml:27",
        wanted="at most that of the model before",
        why="",
        score=0.6123,
        score_before=0.7011,
        seconds=4.2,
    )
    return ModelFacts(
        row=one,
        description=(
            ("base", "smollm2 (bases/SmolLM2-135M-Instruct.Q4_1.gguf)"),
            ("adapter", "rank 16 on 7 modules of 30 layers"),
            ("training took", "2 min 13 s"),
            ("served as", "merged into Q4_1"),
            ("seed", "42"),
        ),
        reasons=(("validate:errors", stale[0]), (f"train:{one.name}", f"build/{one.name}/text.jsonl changed")) if one.state != "fresh" else (),
        nodes=nodes,
        edges=edges,
        curves=tuple(curve(seed, "now" if not seed else f"of {seed} before", is_current=not seed, points=140 - 20 * seed) for seed in range(4)),
        tests=tuple(
            TestsOnHost(host=host.host, digest=host.digest, summary="1 of 3 tests failed", results=(failed, asked, scored)) for host in one.hosts
        ),
        recipe=(
            RecipeValue(key="train.trainer", value='"peft"', at="models.yaml:5"),
            RecipeValue(key="train.rank", value="16", at="models.yaml:6"),
            RecipeValue(key="train.learning_rate", value="0.001", at="models.yaml:7"),
            RecipeValue(key="train.system", value='"You are the help desk of ollamake."', at="models.yaml:11"),
            RecipeValue(key="train.batch_size", value="4", at=None),
            RecipeValue(key="serve.parameters.temperature", value="0", at="models.yaml:13"),
        ),
        history=(
            Promotion(
                host=HERE,
                at="2026-11-20T12:04:00Z",
                how="promoted",
                digest=digest(one.name),
                replaced=digest("before"),
                tests="3 tests passed",
                because="",
                commit=digest("c1")[7:47],
                now=("latest",),
                changed=("errors: 138 records, 12 more", "helpdesk: 1 record changed"),
            ),
            Promotion(
                host=HERE,
                at="2026-11-12T09:30:00Z",
                how="rolled back",
                digest=digest("before"),
                replaced=digest("bad"),
                tests="3 tests passed",
                because="it answers in capitals",
                commit=None,
                now=("previous",),
                changed=(),
            ),
            Promotion(
                host=HERE,
                at="2026-11-10T16:00:00Z",
                how="promoted",
                digest=digest("bad"),
                replaced=None,
                tests="3 tests passed",
                because="",
                commit=digest("c2")[7:47],
                now=(),
                changed=("helpdesk: 126 records",),
            ),
        ),
        modelfile='FROM ./served.gguf\nTEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"""\nPARAMETER temperature 0\nSYSTEM You are the help desk of ollamake.\n',
    )


def dataset(one: DatasetRow, *, readers: tuple[tuple[str, str], ...] = (), text: str = "What does `doit plan` say?") -> DatasetFacts:
    """A dataset's page with all that a page can have."""
    edges = tuple(range(0, 720, 20))
    counts = tuple(max(0, round(60 * math.exp(-(((edge - 180) / 90) ** 2)) + (3 if edge > 520 else 0))) for edge in edges[:-1])
    return DatasetFacts(
        row=one,
        description=(("format", "alpaca"), ("rules", "duplicates: error, leaks: off"), ("held out", "5%")),
        files=(
            File(path=f"datasets/{one.name}/a.jsonl", bytes=one.bytes // 2, records=80),
            File(path=f"datasets/{one.name}/b.jsonl", bytes=one.bytes // 2, records=58),
        ),
        duplicates=2,
        said=(
            Said(
                at=f"datasets/{one.name}/a.jsonl:47",
                rule="unknown-key",
                text="unknown key 'ouput'",
                fix="write 'output' (known: input, instruction, output)",
                is_error=True,
            ),
            Said(at=f"datasets/{one.name}/a.jsonl:51", rule="secrets", text="an AWS access key in 'output'", fix="take it out", is_error=False),
        ),
        more_said=3,
        lengths=(
            Lengths(base="smollm2", limit=512, edges=edges, counts=counts, over=27, longest=690),
            Lengths(base="llama3.2", limit=8192, edges=(0, 16, 32, 48, 64, 80), counts=(4, 31, 70, 30, 3), over=0, longest=67, sampled=138),
        ),
        samples=(
            Sample(
                at=f"datasets/{one.name}/a.jsonl:1",
                parts=(("instruction", text), ("output", "It says which steps a run would take, why, and how long they would be.")),
            ),
            Sample(
                at=f"datasets/{one.name}/a.jsonl:80",
                parts=(("user", "My key is AKIA****************"), ("assistant", "Keep it to yourself.")),
                cut=1200,
            ),
        ),
        readers=readers,
        growth=tuple(
            Growth(
                commit=digest(str(place))[7:47],
                at=f"2026-{place + 2:02}-03T10:00:00Z",
                subject=f"data: round {place}",
                records=40 * place + 20,
                bytes=4000 * place,
            )
            for place in range(1, 9)
        ),
    )


def small() -> Site:
    """As the demo is: two models that share a dataset, on two servers."""
    rows = (
        replace(row("help-desk", 1, hosts=2, data=("helpdesk",)), tags=("support",)),
        replace(row("troubleshooter", 7, hosts=2, data=("helpdesk", "errors")), base="smollm2", tags=("support", "night-shift")),
        replace(row("not-yet", 12, data=("helpdesk",)), state="validate", trained=None, digest=None, adapter_bytes=None, served_bytes=None, hosts=()),
    )
    datasets = (replace(dataset_row("helpdesk", 1), readers=3), replace(dataset_row("errors", 3), warnings=4))
    readers = tuple((one.name, one.state) for one in rows)
    return Site(
        catalog=catalog(rows, datasets),
        models=(model(rows[0]), model(rows[1]), bare_model(rows[2])),
        datasets=(dataset(datasets[0], readers=readers), dataset(datasets[1], readers=readers[1:2])),
    )


def bare_model(one: Row) -> ModelFacts:
    """A model of which nothing is known yet."""
    return ModelFacts(row=one, description=(), reasons=(), nodes=(), edges=(), curves=(), tests=(), recipe=(), history=(), modelfile=None)


def bare_dataset(one: DatasetRow) -> DatasetFacts:
    """A dataset of which nothing is known yet."""
    return DatasetFacts(row=one, description=(), files=(), duplicates=None, said=(), more_said=0, lengths=(), samples=(), readers=(), growth=())


ORDERLY = {"id", "page", "kind", "trained", "made", "state", "there"}  # what the surveyor writes, and no person


def spoiled(value: object, text: str, *, keep: frozenset[str] = frozenset()) -> object:
    """The same facts with this text wherever people could have written one; `keep`: fields that stay."""
    if isinstance(value, str):
        return text
    if isinstance(value, tuple):
        return tuple(spoiled(one, text, keep=keep) for one in value)
    if isinstance(value, Struct):
        kept = ORDERLY | keep
        new = {name: spoiled(getattr(value, name), text, keep=keep) for name in value.__struct_fields__ if name not in kept and name != "edges"}
        return replace(value, **new)
    return value


def spoiled_site(text: str) -> Site:
    """A small site whose names alone are as they should be."""
    site = small()
    orderly = frozenset({"row", "models", "datasets", "data", "name", "readers"})
    rows = tuple(spoiled(one, text, keep=frozenset({"name", "data"})) for one in site.catalog.models)
    return Site(
        catalog=replace(spoiled(site.catalog, text, keep=orderly), models=rows),  # type: ignore[type-var,arg-type]
        models=tuple(replace(spoiled(one, text, keep=orderly), row=row) for one, row in zip(site.models, rows, strict=True)),  # type: ignore[type-var]
        datasets=tuple(spoiled(one, text, keep=orderly) for one in site.datasets),  # type: ignore[misc]
    )
