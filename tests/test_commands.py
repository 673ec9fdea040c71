"""`doit ask`, `doit serve` and `doit schema`, as they are typed."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from conftest import CATALOG, Repo
from ollamake.catalog.faults import schema
from ollamake.catalog.marked_yaml import parse


def test_ask_streams_the_answer(built: Repo) -> None:
    result = built.doit("ask", "legal", "Who", "are", "you?")
    assert (result.code, result.out, result.err) == (0, "I am legal:latest\n", "")


def test_ask_beside_base_asks_the_base_that_is_there_now(built: Repo) -> None:
    from tiny_base import write_tiny_base

    built.server.answer = lambda asked: f"I am {asked.weights[0]}"
    before = built.doit("ask", "--beside-base", "legal", "Who are you?").out.splitlines()
    write_tiny_base(built.path / "base.gguf", seed=9)
    now = built.doit("ask", "--beside-base", "legal", "Who are you?").out.splitlines()
    assert (now[:-1], now[-1] == before[-1]) == (before[:-1], False)
    (built.path / "base.gguf").unlink()
    result = built.doit("ask", "--beside-base", "legal", "Who are you?")
    assert (result.code, result.err) == (
        *(3, "ERROR: \nmodels.yaml:5: base 'tiny': no such file: base.gguf\n  fix: put the GGUF there, or mend `gguf`\n"),
    )


def test_ask_beside_base_answers_twice(built: Repo) -> None:
    for _ in range(2):
        result = built.doit("ask", "--beside-base", "legal", "Who are you?")
        assert (result.code, result.out) == (0, "legal:\nI am legal:latest\n\ntiny, its base:\nI am legal:base\n")
        assert set(built.server.models) == {"legal:latest", "sales:latest"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("legal",), 'usage: doit ask MODEL "QUESTION"'),
        ((), 'usage: doit ask MODEL "QUESTION"'),
        (("leagl", "Hi"), "\nno model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("--catalog", "other.yaml", "legal", "Hi"), "\nother.yaml: can't be read: No such file or directory\n  fix: write a catalog there"),
    ],
)
def test_ask_says_what_is_wrong(built: Repo, arguments: tuple[str, ...], said: str) -> None:
    result = built.doit("ask", *arguments)
    assert result.code == 3
    assert result.err.startswith(f"ERROR: {said}")


def test_ask_before_the_first_build(repo: Repo) -> None:
    result = repo.doit("ask", "legal", "Hi")
    assert result.code == 3
    assert result.err == f"ERROR: \nlegal is not on http://{repo.server.host} yet\n  fix: build it: `doit build legal`\n"


def test_serve_starts_nothing_where_an_ollama_answers(built: Repo) -> None:
    result = built.doit("serve")
    assert (result.code, result.out) == (0, f"Ollama 0.9.3 answers at http://{built.server.host} already: nothing to start\n")


def test_serve_takes_no_argument(repo: Repo) -> None:
    result = repo.doit("serve", "legal")
    assert (result.code, result.err) == (3, "ERROR: serve takes no argument: 'legal'\n")


def test_list_says_what_each_step_is_for(repo: Repo) -> None:
    listed = dict(line.split(maxsplit=1) for line in repo.doit("list", "--all").out.splitlines())
    assert listed["train:legal"] == "train the adapter of legal"
    assert listed["register:sales"] == "make sales in Ollama as a candidate, and have it load"
    assert listed["test:sales"] == "ask sales what its tests ask; if it answers well, it is the one that is used"


def test_schema_prints_what_the_catalog_is_checked_by(repo: Repo) -> None:
    result = repo.doit("schema")
    assert result.code == 0
    assert json.loads(result.out) == schema()
    Draft202012Validator.check_schema(schema())
    Draft202012Validator(schema()).validate(parse(CATALOG, "models.yaml")[0])
    assert repo.doit("schema", "x").err == "ERROR: schema takes no argument: 'x'\n"
