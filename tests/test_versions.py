"""`doit rollback`, `history`, `prune` and `diff`: the versions of a model, before a server that counts what is asked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from conftest import Repo
from fake_ollama import Refusal


def latest(repo: Repo, tag: str = "latest") -> str:
    return repo.server.digest(f"legal:{tag}")


def edit(repo: Repo, number: int, text: str) -> None:
    """Another version of legal's data."""
    repo.replace(f"Answer {number}.", text, "datasets/shared.jsonl")


@pytest.fixture
def two(built: Repo) -> Repo:
    """A repo with two versions of its models."""
    edit(built, 3, "A bad answer.")
    assert built.doit().code == 0
    return built


def test_a_model_is_rolled_back_and_stays_so(two: Repo) -> None:
    good, bad, trainings = latest(two, "previous"), latest(two), list(two.trainings)
    result = two.doit("rollback", "legal", "--because", "it makes things up")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        f"legal:latest on http://{two.server.host} is {good[:12]} again, and {bad[:12]} is legal:previous\n"
        "so it stays until its data, its recipe or its tests change\n"
    )
    assert (latest(two), latest(two, "previous")) == (good, bad)
    again = two.doit()
    assert (again.code, again.ran, two.trainings) == (0, [], trainings)
    assert latest(two) == good
    assert two.doit("plan").out == "nothing to do: everything is fresh\n"


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?", "THEN", text)


def test_rolled_back_twice_is_where_it_was(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    assert (two.doit("rollback", "legal").code, two.doit("rollback", "legal").code) == (0, 0)
    assert (latest(two), latest(two, "previous")) == (bad, good)
    assert two.doit().ran == []


def test_an_edit_after_a_roll_back_trains_and_is_promoted(two: Repo) -> None:
    bad = latest(two)
    two.doit("rollback", "legal")
    good = latest(two)
    edit(two, 1, "A better answer.")
    assert two.doit("build", "legal").ran[-3:] == ["package:legal", "register:legal", "test:legal"]
    assert latest(two) not in {good, bad}
    assert latest(two, "previous") == good


def test_a_roll_back_is_in_the_history_and_why_tells_of_it(two: Repo) -> None:
    good, bad = latest(two, "previous")[:12], latest(two)[:12]
    two.doit("rollback", "legal", "--because", "it makes things up")
    assert without_times(two.doit("history", "legal").out) == (
        f"legal on http://{two.server.host}\n"
        f"    THEN  {good}  latest    rolled back; in place of {bad}; it makes things up; 2 tests passed; shared 5 records\n"
        f"    THEN  {bad}  previous  promoted; in place of {good}; 2 tests passed; shared 5 records\n"
        f"    THEN  {good}  latest    promoted; 2 tests passed; shared 5 records\n"
    )
    why = without_times(two.doit("why", "legal").out)
    said = f"rolled back from {bad} to {good} on THEN: it makes things up"
    assert f"test:legal\n    last  THEN: {said}\n    next  fresh\n" in why
    assert f"    tested    {said}\n" in why
    assert f"    model     legal:latest sha256:{latest(two)}\n    on        http://{two.server.host}\n    dataset   shared: 5 records" in why
    (found,) = json.loads(two.doit("status", "--json", "legal").out)["models"]
    assert (found["is_there"], found["stage"], found["tests"]) == ("rolled back", "fresh", "2 tests passed")


def test_any_kept_version_can_be_gone_back_to(built: Repo) -> None:
    text = Path("models.yaml").read_text(encoding="utf-8")
    Path("models.yaml").write_text(f"{text}ollama: {{keep: 2}}\n", encoding="utf-8")
    first = latest(built)
    for number in (1, 2):
        edit(built, number, f"Another answer to {number}.")
        assert built.doit("build", "legal").code == 0
    assert latest(built, "previous-2") == first
    third = latest(built)
    assert built.doit("rollback", "legal", "--to", first[:8]).code == 0
    assert (latest(built), latest(built, "previous-2")) == (first, third)
    assert built.doit("build", "legal").ran == []
    assert built.doit("rollback", "legal", "--to", "previous-2").code == 0
    assert latest(built) == third


def test_what_is_the_latest_already_is_said(two: Repo) -> None:
    two.server.counts.clear()
    result = two.doit("rollback", "legal", "--to", latest(two)[:12])
    assert (result.code, result.out.splitlines()[0]) == (0, f"legal:latest on http://{two.server.host} is {latest(two)[:12]} already")
    assert two.server.counts["copy"] == 0


def test_a_roll_back_that_was_cut_off_is_finished_by_the_same_command(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    for tag, other in (("rolling-back", "latest"), ("latest", "previous")):
        two.server.models[f"legal:{tag}"] = two.server.models[f"legal:{other}"]
    assert latest(two, "previous") == latest(two) == good  # killed before the old one had its place
    assert two.doit("rollback", "legal", "--to", good[:12]).code == 0
    assert (two.doit().ran, latest(two), latest(two, "rolling-back")) == ([], good, bad)


def test_mistakes_are_said_with_what_to_do(two: Repo) -> None:
    host, good, bad = f"http://{two.server.host}", latest(two, "previous")[:12], latest(two)[:12]
    there = f"latest ({bad}), previous ({good})"
    for arguments, wanted in (
        ((), "usage: doit rollback MODEL [--to TAG|DIGEST]"),
        (("legl",), "no model 'legl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("*",), "'*' means 2 models: legal, sales\n  fix: name one of them"),
        (
            ("legal", "--to", "previus"),
            f"legal on {host} has no version 'previus'\n"
            "  fix: write 'previous' (known: latest, previous); or the first digits of a digest, as `doit history legal` shows them",
        ),
        (("legal", "--host", "gpu-box"), f"--host gpu-box: the catalog names no such server\n  fix: known: {host}"),
    ):
        result = two.doit("rollback", *arguments)
        assert (result.code, result.err.strip().removeprefix("ERROR: ").strip()) == (3, wanted)
    del two.server.models["legal:previous"]
    assert f"no version of legal before the latest is on {host}\n  fix: there: latest ({bad}); a version is kept" in two.doit("rollback", "legal").err
    assert f"legal {good} is no longer on {host}\n  fix: still there: latest ({bad})" in two.doit("rollback", "legal", "--to", good).err
    assert there.startswith("latest")
    two.server.models["legal:candidate"] = two.server.models["sales:latest"]
    assert "legal:candidate has not passed its tests\n" in two.doit("rollback", "legal", "--to", "candidate").err
    two.server.models.clear()
    assert f"legal is not on {host} yet\n  fix: build it: `doit build legal`" in two.doit("rollback", "legal").err


def test_a_server_that_does_not_answer_is_said_and_nothing_is_noted(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    before = Path("models.lock").read_bytes()
    result = two.doit("rollback", "legal")
    assert (result.code, Path("models.lock").read_bytes()) == (3, before)
    assert "nothing answers at http://gpu-box.invalid:11434\n  fix: start Ollama on that machine" in result.err


def test_where_nothing_is_remembered_it_says_what_the_next_build_does(two: Repo) -> None:
    shutil.rmtree(".ollamake")
    good = latest(two, "previous")
    result = two.doit("rollback", "legal")
    assert (result.code, latest(two)) == (0, good)
    assert result.out.splitlines()[1].startswith("the next `doit` makes another version all the same: package:legal: not built yet")


def test_a_record_of_the_test_alone_that_is_lost_is_made_again(two: Repo) -> None:
    (path,) = Path(".ollamake/records").glob("127*.json")
    records = json.loads(path.read_text(encoding="utf-8"))
    del records["test:legal"]
    path.write_text(json.dumps(records), encoding="utf-8")
    assert two.doit("rollback", "legal").code == 0
    assert two.doit().ran == []


def test_a_server_fails_in_the_middle_and_nothing_is_lost(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    two.server.refusals.append(Refusal("/api/copy", 500, "no space left on device"))
    assert two.doit("rollback", "legal").code == 3
    assert (latest(two), latest(two, "previous")) == (bad, good)
    assert two.doit("rollback", "legal").code == 0


def test_the_history_says_what_is_gone(two: Repo) -> None:
    good = latest(two, "previous")[:12]
    del two.server.models["legal:previous"]
    assert f"  {good}  gone    promoted; 2 tests passed; shared 5 records\n" in two.doit("history", "legal").out
    (facts,) = json.loads(two.doit("history", "legal", "--json").out)
    assert [version["tags"] for version in facts["versions"]] == [["latest"], []]


def test_a_model_without_a_history(repo: Repo) -> None:
    assert repo.doit("history", "legal").out == (f"legal on http://{repo.server.host}\n    no version of it was used, as far as is known here\n")


def test_a_version_is_asked_by_its_tag(two: Repo) -> None:
    assert two.doit("ask", "legal:previous", "Hello?").out == "I am legal:previous\n"
    assert two.doit("ask", f"legal:{latest(two)[:8]}", "Hello?").out == "I am legal:latest\n"
    assert two.doit("ask", "legal", "Hello?").out == "I am legal:latest\n"
    result = two.doit("ask", "legal:candidate", "Hello?")
    assert (result.code, result.err) == (
        3,
        f"ERROR: \nlegal on http://{two.server.host} has no version 'candidate'\n"
        "  fix: known: latest, previous; or the first digits of a digest, as `doit history legal` shows them\n",
    )


def test_other_tests_after_a_roll_back_try_the_version_again_that_was_left(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    two.doit("rollback", "legal")
    two.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Who?", expect: {contains: "I am"}}]\n')
    assert two.doit("build", "legal").ran == ["test:legal"]
    assert (latest(two), latest(two, "previous")) == (bad, good)
    assert "legal:candidate" not in two.server.models
    assert two.doit().ran == []
