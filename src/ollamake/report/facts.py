"""What a report shows, as frozen values. Whoever fills them looks at files, git and servers; whoever writes the pages looks at nothing else.

Times are ISO 8601, in UTC; sizes are bytes; digests are whole. Texts are as people wrote them: a page escapes them. None: it is not known, or there is none.
"""

from __future__ import annotations

from msgspec import Struct

DATASET, TEXT, ADAPTER, SERVED, MODEL, BASE = NODES = ("dataset", "text", "adapter", "served weights", "model", "base")
INDEX = "index.html"


class Hosted(Struct, frozen=True, kw_only=True, array_like=True):
    """A model on one server; the words are those of `doit status`."""

    host: str
    there: str  # latest, rolled back, missing, replaced by hand, not made yet, no answer
    digest: str | None = None
    candidate: str | None = None  # what is said of one that stands beside
    tests: str = ""  # `5 tests passed`
    notes: tuple[str, ...] = ()  # what drifted


class Row(Struct, frozen=True, kw_only=True, array_like=True):
    """A model in the table of the catalog."""

    name: str
    state: str  # `fresh`, or the first stage that is stale
    base: str
    data: tuple[str, ...]
    tags: tuple[str, ...]
    trained: str | None
    digest: str | None  # of the model that is used, on the first server that has it
    hosts: tuple[Hosted, ...]
    adapter_bytes: int | None
    served_bytes: int | None


class CatalogFacts(Struct, frozen=True, kw_only=True, array_like=True):
    """The first page."""

    title: str  # the repo's folder
    path: str  # of the catalog
    made: str  # when the report was made
    version: str  # of ollamake
    commit: str | None
    models: tuple[Row, ...]
    datasets: tuple[DatasetRow, ...]


class DatasetRow(Struct, frozen=True, kw_only=True, array_like=True):
    """A dataset in the table of datasets."""

    name: str
    state: str  # `fresh`, `stale`, `failed`
    files: int
    bytes: int
    records: int | None
    warnings: int
    readers: int  # models


class Node(Struct, frozen=True, kw_only=True, array_like=True):
    """A step of the lineage, and what is known of what it makes."""

    id: str  # unique in the graph; an HTML id
    kind: str  # one of NODES
    title: str
    facts: tuple[tuple[str, str], ...]  # label and text
    page: str | None = None  # of its own, from the report's root: `datasets/support.html`
    reasons: tuple[str, ...] = ()  # why it is stale, as `doit plan` says it; none: it is fresh


class Curve(Struct, frozen=True, kw_only=True, array_like=True):
    """One training, thinned to what a plot can show. Columns of one length; None where a step did not tell it."""

    label: str  # `now`, or when it was trained
    trained: str | None
    is_current: bool
    steps: tuple[int, ...]
    loss: tuple[float | None, ...]
    learning_rate: tuple[float | None, ...]
    held_out_steps: tuple[int, ...] = ()
    held_out_loss: tuple[float, ...] = ()


class Asked(Struct, frozen=True, kw_only=True, array_like=True):
    """A test of a model, and what it came to."""

    name: str
    kind: str
    passed: bool
    at: str | None  # `models.yaml:14`
    wanted: str
    why: str
    score: float | None = None
    score_before: float | None = None  # of the version before
    question: str = ""
    answer: str = ""
    answer_of_previous: str | None = None
    answer_of_base: str | None = None
    seconds: float = 0.0


class TestsOnHost(Struct, frozen=True, kw_only=True, array_like=True):
    """What a model's tests came to on one server."""

    host: str
    digest: str | None
    summary: str
    results: tuple[Asked, ...]


class RecipeValue(Struct, frozen=True, kw_only=True, array_like=True):
    """What the catalog says of a model, and where."""

    key: str
    value: str  # JSON
    at: str | None  # None: the default


class Promotion(Struct, frozen=True, kw_only=True, array_like=True):
    """A version came to be used on a server."""

    host: str
    at: str
    how: str  # promoted, rolled back
    digest: str
    replaced: str | None
    tests: str
    because: str
    commit: str | None
    now: tuple[str, ...]  # its tags on the server now: latest, previous; or gone; none where the server does not answer
    changed: tuple[str, ...]  # in the data, against the version before: `support: 138 records, 12 more`


class ModelFacts(Struct, frozen=True, kw_only=True, array_like=True):
    """A model's page."""

    row: Row
    description: tuple[tuple[str, str], ...]  # label and text: base, adapter, rank, training took ...
    reasons: tuple[tuple[str, str], ...]  # step and why it will run
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]  # ids of nodes
    curves: tuple[Curve, ...]  # the current one first
    tests: tuple[TestsOnHost, ...]
    recipe: tuple[RecipeValue, ...]
    history: tuple[Promotion, ...]  # the youngest first
    modelfile: str | None
    will_fail: tuple[str, ...] = ()  # steps of `reasons`


class Lengths(Struct, frozen=True, kw_only=True, array_like=True):
    """How long a dataset's records are for one base."""

    base: str
    limit: int | None  # the least max_tokens of the models that read it on this base
    edges: tuple[int, ...]  # tokens; one more than counts
    counts: tuple[int, ...]
    over: int  # records longer than the limit
    longest: int
    sampled: int | None = None  # so many records were counted, of more


class Said(Struct, frozen=True, kw_only=True, array_like=True):
    """What a rule says of a record."""

    at: str  # `datasets/support.jsonl:47`
    rule: str
    text: str
    fix: str | None
    is_error: bool


class Sample(Struct, frozen=True, kw_only=True, array_like=True):
    """A record, its secrets masked."""

    at: str
    parts: tuple[tuple[str, str], ...]  # role or key, and text; a long one is cut
    cut: int = 0  # characters that are not shown


class Growth(Struct, frozen=True, kw_only=True, array_like=True):
    """A dataset at a commit that changed the lock."""

    commit: str
    at: str
    subject: str
    records: int | None
    bytes: int


class File(Struct, frozen=True, kw_only=True, array_like=True):
    """A file of a dataset."""

    path: str
    bytes: int
    records: int | None


class DatasetFacts(Struct, frozen=True, kw_only=True, array_like=True):
    """A dataset's page."""

    row: DatasetRow
    description: tuple[tuple[str, str], ...]
    files: tuple[File, ...]
    duplicates: int | None
    said: tuple[Said, ...]  # the first of them
    more_said: int
    lengths: tuple[Lengths, ...]
    samples: tuple[Sample, ...]
    readers: tuple[tuple[str, str], ...]  # model and its state
    growth: tuple[Growth, ...]  # the oldest first


def model_page(name: str) -> str:
    """Where a model's page is, from the report's root."""
    return f"models/{name}.html"


def dataset_page(name: str) -> str:
    """Where a dataset's page is, from the report's root."""
    return f"datasets/{name}.html"
