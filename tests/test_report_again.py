"""A report that looks only at what changed shows the same as one that looks at everything."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import HERE, Repo, copy_of, jsonl, write_repo
from fake_ollama import FakeOllama
from ollamake.survey import press, section
from ollamake.survey.kept import KEPT
from ollamake.survey.site import REPORT
from test_lock import git

FIRST = f"""\
version: 1
env: [TONE]
include: [{{files: more/*.yaml, prefix: more-}}]
defaults:
  train: {{trainer: command, command: [{sys.executable}, {HERE}/counting_trainer.py, "{{text}}", "{{out}}", "{{recipe}}"], rank: 2, target_modules: [q_proj]}}
bases:
  tiny: {{gguf: base.gguf}}
datasets:
  one: {{files: [datasets/one.jsonl]}}
  two: {{files: [datasets/two.jsonl]}}
  many: {{files: [datasets/many/*.jsonl]}}
  nobody: {{files: [datasets/two.jsonl]}}
models:
  one: {{base: tiny, data: [one], tags: [first]}}
  two: {{base: tiny, data: [two], serve: {{system: "${{TONE}}"}}}}
  both: {{base: tiny, data: [one, two]}}
  many: {{base: tiny, data: [many]}}
  asked: {{base: tiny, data: [many], tests: [{{dataset: two, metric: token_f1, min: 0}}]}}
  given: {{base: tiny, adapter: given}}
  m:
    name: m-{{train.rank}}
    base: tiny
    data: [many]
    matrix: {{train.rank: [2, 4]}}
"""
MORE = """\
version: 1
datasets:
  own: {files: [../datasets/own.jsonl]}
models:
  own: {base: tiny, data: [own]}
  first: {base: tiny, data: [one]}
"""


@pytest.fixture(scope="module")
def _built_shop(tmp_path_factory: pytest.TempPathFactory, _one_ollama: FakeOllama, tiny_base: Path) -> tuple[Path, FakeOllama]:
    folder = tmp_path_factory.mktemp("shop")
    write_repo(folder, tiny_base)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TONE", "plain")
        patch.setenv("OLLAMA_HOST", _one_ollama.host)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        _one_ollama.reset()
        for name in ("one", "two", "own", "many/a", "many/b"):
            path = Path(f"datasets/{name}.jsonl")
            path.parent.mkdir(exist_ok=True)
            path.write_text(jsonl(*({"instruction": f"{name} {number}?", "output": f"Well, {number}."} for number in range(4))), encoding="utf-8")
        Path("models.yaml").write_text(FIRST, encoding="utf-8")
        Path("more").mkdir()
        Path("more/shop.yaml").write_text(MORE, encoding="utf-8")
        Path(".gitignore").write_text("/build/\n/.ollamake/\n", encoding="utf-8")
        shop = Repo(folder, _one_ollama)
        shop.doit("train:one")
        shutil.copytree("adapters/one", "given", ignore=shutil.ignore_patterns("receipt.json"))
        result = shop.doit()
        assert result.code == 0, result.out + result.err
        git("init", "-b", "main")
        git("add", ".")
        git("commit", "-m", "first")
    return folder, _one_ollama.snapshot()


@pytest.fixture
def shop(_built_shop: tuple[Path, FakeOllama], tmp_path: Path, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo with ten models, built and reported."""
    found = copy_of(_built_shop, tmp_path, ollama, monkeypatch)
    monkeypatch.setenv("TONE", "plain")
    hour = 3600 * 10**9
    monkeypatch.setattr("ollamake.survey.ground.JUST_NOW", -hour)  # as if all files had been there for as long
    monkeypatch.setattr("ollamake.state.digests.JUST_NOW", -hour)
    report(found)
    return found


def report(repo: Repo) -> tuple[list[str], str]:
    """The pages that were written, and the warnings."""
    result = repo.doit("report", "--json")
    assert result.code == 0, result.out + result.err
    return [path for path in json.loads(result.out)["written"] if path.endswith(".html")], result.err


def shown() -> dict[str, str]:
    """All pages, without the moment at which they were written."""
    pages = {path.relative_to(REPORT).as_posix(): path.read_text(encoding="utf-8") for path in REPORT.rglob("*.html")}
    return {path: re.sub(r"As of <time.*?</time>", "", text) for path, text in pages.items()}


def edit(path: str, text: str = jsonl({"instruction": "New?", "output": "Yes."})) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)


def edited(*paths: str) -> Callable[[Repo], None]:
    return lambda _: [edit(path) for path in paths].clear()


def forgotten(repo: Repo) -> None:
    repo.server.models.pop("one:latest")


def silent(repo: Repo) -> None:
    os.environ["OLLAMA_HOST"] = "http://127.0.0.1:9"


def built_after(change: Callable[[Repo], None]) -> Callable[[Repo], None]:
    def both(repo: Repo) -> None:
        change(repo)
        assert repo.doit().code == 0

    return both


CHANGES: dict[str, tuple[Callable[[Repo], object], set[str]]] = {
    "nothing": (lambda _: None, set()),
    "a record": (edited("datasets/own.jsonl"), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "a record that was built": (built_after(edited("datasets/own.jsonl")), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "a fault": (lambda _: edit("datasets/own.jsonl", "{"), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "a dataset that a test asks": (edited("datasets/two.jsonl"), set()),
    "a file that a pattern finds": (edited("datasets/many/c.jsonl"), set()),
    "a file that is gone": (lambda _: os.unlink("datasets/own.jsonl"), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "the base": (lambda _: edit("base.gguf", "more"), set()),
    "a text": (lambda _: edit("build/more-own/text.jsonl"), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "an adapter": (lambda _: edit("adapters/more-own/adapter_model.safetensors"), {"index.html", "models/more-own.html", "datasets/more-own.html"}),
    "an adapter that was given": (lambda _: edit("given/adapter_config.json", " "), {"index.html", "models/given.html"}),
    "weights that were given": (lambda _: edit("given/adapter_model.safetensors", " "), {"index.html", "models/given.html"}),
    "served weights that are gone": (lambda _: shutil.rmtree("build/m-4"), {"index.html", "models/m-4.html", "datasets/many.html"}),
    "a model that the server has no more": (
        forgotten,
        {"index.html", "models/one.html", "datasets/one.html"},
    ),
    "a server that does not answer": (silent, set()),
    "another value in the environment": (lambda _: os.environ.update(TONE="warm"), set()),
    "the catalog": (lambda repo: repo.replace("tags: [first]", "tags: [first, second]"), set()),
    "a catalog that is included": (lambda repo: repo.replace("own: {base", "other: {base", "more/shop.yaml"), set()),
    "another catalog that is included": (lambda _: Path("more/b.yaml").write_text("version: 1\nmodels: {b: {base: tiny, data: [one]}}\n"), set()),
    "a step that was done again": (lambda repo: repo.doit("-a", "convert:more-own"), set()),
    "a commit": (lambda _: (edit("datasets/two.jsonl"), edit("models.lock", "\n"), git("commit", "-qam", "second")), set()),
    "a page that is gone": (lambda _: (REPORT / "models/m-2.html").unlink(), {"models/m-2.html"}),
    "no memory": (lambda _: shutil.rmtree(".ollamake"), set()),
}


def test_another_server_with_the_same_models_is_another_server(shop: Repo, other: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    other.reset(shop.server.snapshot())
    monkeypatch.setenv("OLLAMA_HOST", other.host)
    report(shop)
    assert shop.server.host not in shown()["index.html"]
    assert other.host in shown()["index.html"]


def test_files_that_were_written_just_now_are_looked_at_again(shop: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollamake.survey.ground.JUST_NOW", 3600 * 10**9)
    report(shop)
    edit("datasets/own.jsonl")
    assert shop.doit("train:more-own").code == 0
    assert "models/more-own.html" in report(shop)[0]
    assert shop.doit().code == 0
    assert "models/more-own.html" in report(shop)[0]
    assert report(shop)[0] == []


@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_is_shown_as_if_all_had_been_looked_at(shop: Repo, what: str) -> None:
    change, expected = CHANGES[what]
    change(shop)
    written, warned = report(shop)
    assert not expected or set(written) == expected
    found = shown()
    KEPT.unlink(missing_ok=True)
    shutil.rmtree(REPORT)
    assert report(shop)[1] == warned
    assert found == shown()
    assert report(shop) == ([], warned)


@pytest.mark.parametrize("what", ["nothing", "a record", "a record that was built", "weights that were given", "a model that the server has no more"])
def test_no_more_of_the_catalog_is_read_than_what_changed(shop: Repo, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CHANGES[what][0](shop)
    read: list[object] = []
    loaded = section.loaded

    def counted(path: str, part: object = None, asked: object = ()) -> object:
        found = loaded(path, part, asked)  # type: ignore[arg-type]
        read.extend(model.name for model in found.sights.catalog.models)
        return found

    monkeypatch.setattr(section, "loaded", counted)
    written, _ = report(shop)
    models = [Path(path).stem for path in written if path.startswith("models/")]
    if what == "nothing":
        assert read == []
    elif what == "a model that the server has no more":
        assert set(read) == {"one", "both", "more-first"} | {name for name in read if name == "two"}
    else:
        assert read == models


def test_a_process_beside_this_one_writes_the_same_pages(shop: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    here = shown()
    shutil.rmtree(REPORT)
    monkeypatch.setattr(press, "MANY", 1)
    assert set(report(shop)[0]) == set(here)
    assert shown() == here
    assert report(shop)[0] == []


def test_what_that_process_can_not_write_is_said_as_it_is_here(shop: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    said = set()
    for most in (1000, 1):
        monkeypatch.setattr(press, "MANY", most)
        shutil.rmtree(REPORT / "models", ignore_errors=True)
        (REPORT / "models").unlink(missing_ok=True)
        (REPORT / "models").write_text("in the way", encoding="utf-8")
        result = shop.doit("report")
        assert result.code == 3
        said.add(result.err.partition("ERROR: ")[2])
    (text,) = said
    assert text.startswith("\nbuild/report/models/one.html: ")
    assert text.endswith(", then run `doit report` again\n")
    (REPORT / "models").unlink()
    assert len(report(shop)[0]) == 10  # the first page shows nothing else than before


def test_a_report_whose_process_is_lost_says_so(shop: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(REPORT)
    monkeypatch.setattr(press, "MANY", 1)
    started = press._started

    def lost(head: press.Head) -> object:
        process = started(head)
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(press, "_started", lost)
    result = shop.doit("report")
    assert (result.code, result.err.partition("ERROR: ")[2]) == (
        3,
        "\nthe process that writes pages was lost: it ended with code -9\n  fix: run `doit report` again\n",
    )
    monkeypatch.setattr(press, "_started", started)
    pages = set(report(shop)[0])
    assert len(pages) == 16
    assert pages == set(shown())
