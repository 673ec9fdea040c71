"""Each row of the tables of docs/rebuild.md is a promise: it is done to a repo of two models, and what runs then is counted."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Repo
from fake_ollama import FakeOllama
from tiny_base import write_tiny_base

PAGE = (Path(__file__).parent.parent / "docs/rebuild.md").read_text(encoding="utf-8")
ROWS = {
    what: (whom, [] if runs == "nothing" else runs.split(", "))
    for what, whom, runs in re.findall(
        r"^\| (.+?) \| (.+?) \| ((?:nothing|validate|convert|train|package|register|test)[a-z, ]*) \|$", PAGE, flags=re.MULTILINE
    )
}
# In the repo of the tests, `sales` alone reads the dataset `tone`; `legal` is the model that is edited; both are on one base.
MODELS = {
    "the models that read it": ["sales"],
    "that model": ["legal"],
    "the model of the new name": ["law"],
    "the models on it": ["legal", "sales"],
    "every model": ["legal", "sales"],
}
TONE = "datasets/tone.jsonl"


def legal(repo: Repo, *lines: str) -> None:
    """Write these keys of the model `legal`."""
    repo.replace("    data: [shared]\n", "".join(f"    {line}\n" for line in ("data: [shared]", *lines)))


def tone(repo: Repo, edit: Callable[[str], str]) -> None:
    path = repo.records("tone")
    path.write_bytes(edit(path.read_text(encoding="utf-8")).encode())


def another_kind(repo: Repo) -> None:
    records = [json.loads(line) for line in repo.records("tone").read_text(encoding="utf-8").splitlines()]
    with Path("datasets/tone.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["instruction", "input", "output"])
        writer.writeheader()
        writer.writerows(records)
    repo.replace(TONE, "datasets/tone.csv")


def with_schema(repo: Repo) -> None:
    Path("record.json").write_text('{"type": "object"}', encoding="utf-8")
    repo.replace("tone: {files", "tone: {schema: record.json, files")


def touch(repo: Repo) -> None:
    for path in (*repo.path.glob("datasets/*"), repo.path / "base.gguf", repo.path / "models.yaml", *repo.path.glob("adapters/*/*")):
        os.utime(path, ns=(1, 1))


def asked(repo: Repo) -> None:
    legal(repo, "tests: [{ask: Who?, expect: {regex: .}}]")


def asked_from_a_file(repo: Repo) -> None:
    Path("asked.jsonl").write_text('{"instruction": "Who?", "output": "Me."}\n', encoding="utf-8")
    repo.replace("datasets:\n", "datasets:\n  asked: {files: [asked.jsonl]}\n")
    legal(repo, "tests: [{dataset: asked, metric: exact, min: 0}]")
    repo.doit()
    repo.replace("Me.", "You.", "asked.jsonl")


def new_base(repo: Repo) -> None:
    write_tiny_base(repo.path / "base.gguf", seed=2)


def moved_base(repo: Repo) -> None:
    Path("bases").mkdir()
    Path("base.gguf").rename("bases/tiny.gguf")
    repo.replace("base.gguf", "bases/tiny.gguf")


def included(repo: Repo) -> None:
    text = Path("models.yaml").read_text(encoding="utf-8")
    start, end = text.index("  legal:"), text.index("  sales:")
    Path("more.yaml").write_text(f"version: 1\nmodels:\n{text[start:end]}", encoding="utf-8")
    Path("models.yaml").write_text((text[:start] + text[end:]).replace("version: 1\n", "version: 1\ninclude: [more.yaml]\n"), encoding="utf-8")


def removed(repo: Repo) -> None:
    del repo.server.models["legal:latest"]


def by_hand(repo: Repo) -> None:
    repo.server.models["legal:latest"] = {"files": {}}


def no_adapters(repo: Repo) -> None:
    repo.server.version = "0.34.1"


def new_server(repo: Repo) -> None:
    repo.server.reset()


def gone(*paths: str) -> Callable[[Repo], None]:
    def remove(_: Repo) -> None:
        for path in map(Path, paths):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    return remove


def damaged(path: str) -> Callable[[Repo], None]:
    def damage(_: Repo) -> None:
        good = Path(path).read_bytes()
        Path(path).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    return damage


def cloned(repo: Repo) -> None:
    gone("build", ".ollamake")(repo)
    repo.server.reset()


def forgotten(repo: Repo) -> None:
    assert repo.doit("forget", "train:legal").code == 0


EDITS: dict[str, Callable[[Repo], None]] = {
    "nothing": lambda _: None,
    "`touch` datasets, bases, adapters, the catalog": touch,
    "a comment in `models.yaml`": lambda repo: repo.replace("version: 1", "# about us\nversion: 1  # of the format"),
    "another order of the catalog's keys": lambda repo: repo.replace("    base: tiny\n    data: [shared]\n", "    data: [shared]\n    base: tiny\n"),
    "another way to write the same number: `1.0e-3`, `0.001`": lambda repo: repo.replace("rank: 2,", "rank: 2.0, learning_rate: 0.0002,"),
    "move a key of a model to `defaults`": lambda repo: repo.replace("defaults:\n", "defaults:\n  serve: {}\n"),
    "move a model to an included catalog": included,
    "change `tags`": lambda repo: legal(repo, "tags: [one]"),
    "white space, key order, blank lines, CRLF, a BOM": lambda repo: tone(
        repo, lambda text: text.replace('": "', '"  :\t"').replace("\n", "\r\n\r\n")
    ),
    "write the same records as another kind of file: a JSON array, CSV, Parquet, packed": another_kind,
    "change a record": lambda repo: repo.replace("Gladly not 1.", "No.", TONE),
    "add a record": lambda repo: tone(repo, lambda text: text + '{"instruction": "And?", "output": "So."}\n'),
    "remove a record": lambda repo: tone(repo, lambda text: text.partition("\n")[2]),
    "change the order of records": lambda repo: tone(repo, lambda text: "".join(reversed(text.splitlines(keepends=True)))),
    "change `rules`, and the same records are left": lambda repo: repo.replace("tone: {files", "tone: {rules: {duplicates: error}, files"),
    "add a `schema`, or change it": with_schema,
    "rename a dataset": lambda repo: (repo.replace("tone: {files", "style: {files"), repo.replace("[shared, tone]", "[shared, style]"))[0],
    "`holdout`, where other records are left to train on": lambda repo: repo.replace("tone: {files", "tone: {holdout: 60%, files"),
    "a key of `train`": lambda repo: legal(repo, "train: {rank: 3}"),
    "a key of `train` that comes to the same adapter": lambda repo: legal(repo, "train: {learning_rate: 1e-5}"),
    "`train.max_tokens`, and the text stays the same": lambda repo: legal(repo, "train: {max_tokens: 99}"),
    "`train.launch`, `train.resources`": lambda repo: legal(repo, "train: {resources: {gpu: 0}, launch: [env]}"),
    "`weight` or `limit` of a portion, where the text becomes another": lambda repo: (
        legal(repo) or repo.replace("data: [shared]\n", "data: [{dataset: shared, limit: 2}]\n")
    ),
    "`shuffle`, where the text becomes another": lambda repo: legal(repo, "shuffle: true"),
    "rename a model": lambda repo: repo.replace("  legal:", "  law:"),
    "`serve.parameters`, `system`, `template`": lambda repo: legal(
        repo, "serve: {parameters: {temperature: 0.3}, system: Hi., template: '{{ .Prompt }}'}"
    ),
    "`serve.weights`, `weights_type`": lambda repo: legal(repo, "serve: {weights: merged, weights_type: f16}"),
    "`tests`": asked,
    "a file or dataset that `tests` names": asked_from_a_file,
    "replace the base's GGUF": new_base,
    "move the base's GGUF, and say so in `gguf`": moved_base,
    "`ollama rm MODEL`": removed,
    "another model under its name, by hand": by_hand,
    "a server without the models: `$OLLAMA_HOST`, a new machine": new_server,
    "a server that takes no adapters any more (`weights: auto`)": no_adapters,
    "clone the repo, with `models.lock` and the adapters": cloned,
    "delete `build/`": gone("build"),
    "delete `.ollamake/`": gone(".ollamake"),
    "delete `models.lock`": gone("models.lock"),
    "delete `adapters/NAME/`": gone("adapters/legal"),
    "`doit forget train:NAME`": forgotten,
    "damage or edit the adapter": damaged("adapters/legal/adapter_model.safetensors"),
    "damage or edit `build/NAME/text.jsonl`": damaged("build/legal/text.jsonl"),
    "damage or edit the served weights": damaged("build/legal/adapter.gguf"),
}


def test_every_row_of_the_page_is_tried() -> None:
    assert list(ROWS) == list(EDITS)


@pytest.mark.parametrize("what", EDITS)
def test_what_the_page_says_runs(built: Repo, ollama: FakeOllama, what: str) -> None:
    EDITS[what](built)
    result = built.doit()
    assert result.code == 0, result.out + result.err
    ran: dict[str, set[str]] = {}
    for step in result.ran:
        stage, _, name = step.partition(":")
        ran.setdefault(stage, set()).add(name)
    whom, stages = ROWS.get(what, ("", []))
    if "SHOW" in os.environ:
        print("ROW", what, "|", ran, file=sys.__stderr__)
    assert list(ran) == stages
    for stage in set(stages) - {"validate"}:
        assert sorted(ran[stage]) == MODELS[whom]
    trained = built.trainings[2:]
    assert sorted(trained) == (MODELS[whom] if "train" in stages else [])
    assert built.doit().ran == []
