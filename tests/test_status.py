"""`doit status`: how each model stands, before a server that counts what is asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo
from fake_ollama import FakeOllama
from ollamake.digest import digest_file
from ollamake.standing import age


def status(repo: Repo, *arguments: str) -> dict[str, dict[str, Any]]:
    result = repo.doit("status", "--json", *arguments)
    facts = json.loads(result.out)
    assert (result.code, result.err) == (0 if facts["fresh"] else 4, "")
    return {one["model"]: one for one in facts["models"]}


def cells(line: str) -> list[str]:
    return re.split(r"  +", line)


def test_the_table_is_made_with_one_call_for_all_models(built: Repo) -> None:
    built.server.counts.clear()
    result = built.doit("status")
    assert (result.code, result.err) == (0, "")
    host = f"http://{built.server.host}"
    assert [cells(re.sub(r"just now|\d+ \w+(?=  +[0-9a-f]{12}  )", "AGE", line)) for line in result.out.splitlines()] == [
        ["model", "stage", "trained", "digest", "host", "there", "tests"],
        ["legal", "fresh", "AGE", built.server.digest("legal:latest")[:12], host, "latest", "2 tests passed"],
        ["sales", "fresh", "AGE", built.server.digest("sales:latest")[:12], host, "latest", "2 tests passed"],
    ]
    assert built.server.counts == Counter({"/api/tags": 1, "/api/version": 1})  # the version decides what `serve.weights: auto` comes to


def test_a_selector_chooses_the_models(built: Repo) -> None:
    assert list(status(built, "sales")) == ["sales"]
    assert list(status(built, "--exclude", "sales")) == ["legal"]


def test_nothing_is_built_yet(repo: Repo) -> None:
    found = status(repo)["legal"]
    assert (found["stage"], found["adapter"], found["digest"], found["is_there"], found["tests"]) == ("validate", None, None, "not made yet", "never")
    assert not Path(".ollamake").exists()


def test_the_stage_is_the_first_that_is_stale(built: Repo) -> None:
    built.replace("Gladly not 1.", "Gladly 1.", "datasets/tone.jsonl")
    assert {name: one["stage"] for name, one in status(built).items()} == {"legal": "fresh", "sales": "validate"}
    built.replace("rank: 2,", "rank: 3,")
    assert status(built)["legal"]["stage"] == "train"


def test_a_model_that_is_missing(built: Repo) -> None:
    del built.server.models["legal:latest"]
    assert (status(built)["legal"]["is_there"], status(built)["legal"]["stage"]) == ("missing", "register")


def test_of_a_model_that_was_edited_by_hand_it_is_said_in_what(built: Repo) -> None:
    built.server.models["sales:latest"] = {
        **built.server.models["sales:latest"],
        "parameters": {"temperature": 0.9, "top_k": 3},
        "system": "Be rude.",
    }
    built.server.counts.clear()
    found = status(built)
    assert found["legal"]["drift"] == []
    assert found["sales"]["is_there"] == "replaced by hand"
    assert found["sales"]["drift"] == ["replaced by hand: temperature: 0.2 -> 0.9, top_k: nothing -> 3, the system prompt"]
    assert built.server.counts["show"] == 1  # it alone
    assert f"sales on http://{built.server.host}: replaced by hand: temperature: 0.2 -> 0.9" in built.doit("status").out


def test_other_weights_are_told_from_other_parameters(built: Repo) -> None:
    built.server.models["legal:latest"] = built.server.models["sales:latest"]
    assert status(built)["legal"]["drift"] == ["replaced by hand: temperature: nothing -> 0.2, the weights"]


def test_another_template_is_said(built: Repo) -> None:
    built.replace("    data: [shared]\n", '    data: [shared]\n    serve: {template: "{{ .Prompt }}!"}\n')
    built.doit()
    built.server.models["legal:latest"] = {**built.server.models["legal:latest"], "template": "{{ .Prompt }}?"}
    assert status(built)["legal"]["drift"] == ["replaced by hand: the template"]


def test_a_base_that_changed_is_said(built: Repo) -> None:
    then = digest_file(Path("base.gguf"))[7:19]
    Path("base.gguf").write_bytes(Path("base.gguf").read_bytes() + b"\0")
    found = status(built)["legal"]
    now = digest_file(Path("base.gguf"))[7:19]
    assert found["drift"] == [f"base tiny is another one than it came from ({then} then, {now} now)"]
    assert found["stage"] == "convert"


def test_a_candidate_that_failed_is_told_beside_the_latest(built: Repo) -> None:
    before = built.server.digest("legal:latest")
    built.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Question 1?", expect: {contains: "Answer"}}]\n')
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert built.doit("build", "legal").code == 1
    found = status(built)["legal"]
    assert (found["is_there"], found["candidate"], found["tests"], found["digest"], found["stage"]) == (
        "latest",
        "candidate failed its tests",
        "1 of 3 tests failed",
        f"sha256:{before}",
        "test",
    )


def test_of_a_model_that_never_passed_nothing_is_missing(repo: Repo) -> None:
    repo.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Question 1?", expect: {contains: "Answer"}}]\n')
    assert repo.doit("build", "legal").code == 1
    found = status(repo)["legal"]
    assert (found["is_there"], found["candidate"]) == ("not made yet", "candidate failed its tests")


def test_no_server_answers(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    (known,) = Path(".ollamake/records").glob("127*.json")
    known.rename(known.with_name("gpu-box.invalid_11434.json"))
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    found = status(built)["legal"]
    assert (found["is_there"], found["stage"], found["host"]) == ("no answer", "register", "http://gpu-box.invalid:11434")


def test_a_model_that_left_the_catalog_is_said_to_be_there_still(built: Repo) -> None:
    path = Path("models.yaml")
    path.write_text(path.read_text(encoding="utf-8").partition("  sales:\n")[0], encoding="utf-8")
    host = f"http://{built.server.host}"
    assert built.doit("status").out.splitlines()[-1] == f"sales on {host} is in the catalog no more: `doit prune` removes it"
    assert json.loads(built.doit("status", "--json").out)["left"] == [{"model": "sales", "host": host}]


def test_several_servers_are_a_row_each(built: Repo) -> None:
    other = FakeOllama()
    try:
        text = Path("models.yaml").read_text(encoding="utf-8")
        Path("models.yaml").write_text(f"{text}ollama: {{host: ['{built.server.host}', '{other.host}']}}\n", encoding="utf-8")
        assert [tuple(cells(line)[4:6]) for line in built.doit("status", "legal").out.splitlines()[1:]] == [
            (f"http://{built.server.host}", "latest"),  # the same server, though it is in a list now
            (f"http://{other.host}", "not made yet"),
        ]
        assert built.doit().code == 0
        assert {row[5] for row in (cells(line) for line in built.doit("status").out.splitlines()[1:])} == {"latest"}
    finally:
        other.close()


def test_a_thousand_models_are_one_call(repo: Repo) -> None:
    with Path("models.yaml").open("a", encoding="utf-8") as file:
        file.writelines(f"  m{number}: {{base: tiny, data: [shared]}}\n" for number in range(1000))
    repo.server.counts.clear()
    assert len(status(repo)) == 1002
    assert repo.server.counts == Counter({"/api/tags": 1, "/api/version": 1})


def test_an_age_is_in_words() -> None:
    then = "2026-01-01T00:00:00Z"
    at = 1767225600.0
    assert [age(then, at + more) for more in (5, 60, 7200, 86400 * 3)] == ["just now", "1 minute", "2 hours", "3 days"]
    assert age(None, at) == age("never", at) == "-"


def test_a_look_at_a_server_imports_nothing_that_takes_a_while(built: Repo) -> None:
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    program = """
import sys
from doit.doit_cmd import DoitMain
for words in (["status"], ["history", "legal"]):
    DoitMain().run(words)
print([name for name in ("httpx", "ollama", "rich") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
