"""`doit push`: what passed its tests goes where the catalog says, once; and nothing else publishes anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import Repo
from fake_ollama import Refusal
from ollamake.ollama import pushing as to_registry
from ollamake.ollama.address import address_of
from ollamake.ollama.client import OllamaServer


@pytest.fixture
def pushing(repo: Repo) -> Repo:
    """A repo one of whose models is published."""
    repo.replace("    data: [shared]\n", "    data: [shared]\n    push: {ollama: team/legal}\n")
    return repo


def pushes(repo: Repo) -> list[Any]:
    return [asked["model"] for _, path, asked in repo.server.requests if path == "/api/push"]


def test_what_passed_is_pushed_once(pushing: Repo) -> None:
    result = pushing.doit("push")
    assert result.code == 0, result.out + result.err
    assert result.ran[-2:] == ["test:legal", "push:legal"]
    assert "test:sales" not in result.ran  # which is not published
    assert "   legal: to ollama team/legal:latest  (not pushed there yet)\n" in result.out
    assert pushing.server.pushed["team/legal:latest"] == pushing.server.models["legal:latest"]
    assert "team/legal:latest" not in pushing.server.models  # it was named so for as long as that took
    again = pushing.doit("push")
    assert (again.code, again.ran) == (0, [])
    assert "-- push:legal\n" in again.out
    assert pushes(pushing) == ["team/legal:latest"]


def test_a_name_that_can_not_be_taken_away_again_is_told_and_fails_no_push(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    pushing.server.refusals.append(Refusal("/api/delete", 503, "gateway down", method="DELETE", times=9))
    result = pushing.doit("push")
    assert result.code == 0, result.out + result.err
    assert "   team/legal:latest stays on the server: " in result.out
    assert "     fix: ollama rm team/legal:latest\n" in result.out
    assert pushing.doit("push").ran == []


def test_a_new_version_is_pushed_again(pushing: Repo) -> None:
    assert pushing.doit("push").code == 0
    pushing.replace("push: {ollama: team/legal}", "push: {ollama: team/legal}\n    serve: {parameters: {top_k: 3}}")
    result = pushing.doit("push", "legal")
    assert result.ran == ["register:legal", "test:legal", "push:legal"]
    assert pushing.server.pushed["team/legal:latest"]["parameters"] == {"top_k": 3}


def test_nothing_but_push_publishes(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    assert pushing.doit("build", "legal").code == 0
    assert pushing.doit("plan").code == 0
    assert "push" not in pushing.doit("list", "--all").out
    assert pushes(pushing) == []
    assert pushing.doit("push:legal").code == 0
    assert pushes(pushing) == ["team/legal:latest"]


def test_a_change_of_push_builds_nothing(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    pushing.replace("team/legal", "team/other:v2")
    assert pushing.doit().ran == []
    assert pushing.doit("push").ran == ["push:legal"]
    assert list(pushing.server.pushed) == ["team/other:v2"]


def test_what_fails_its_tests_is_not_pushed(pushing: Repo) -> None:
    pushing.replace("push: {ollama: team/legal}", 'push: {ollama: team/legal}\n    tests: [{ask: "Who?", expect: {contains: nobody}}]')
    result = pushing.doit("push")
    assert result.code == 1
    assert "push:legal" not in result.ran
    assert pushes(pushing) == []


def test_rolled_back_what_has_the_name_is_pushed(pushing: Repo) -> None:
    assert pushing.doit("push").code == 0
    first = dict(pushing.server.pushed)
    pushing.replace("push: {ollama: team/legal}", "push: {ollama: team/legal}\n    serve: {parameters: {top_k: 3}}")
    assert pushing.doit("push").code == 0
    assert pushing.doit("rollback", "legal").code == 0
    assert pushing.doit("push").ran == ["push:legal"]
    assert pushing.server.pushed == first


def test_a_name_that_was_there_before_stays(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    pushing.server.models["team/legal:latest"] = pushing.server.models["sales:latest"]
    assert pushing.doit("push").code == 0
    assert pushing.server.models["team/legal:latest"] == pushing.server.models["legal:latest"]


@pytest.mark.parametrize(
    ("says", "fix"),
    [
        ("you are not authorized to push to this namespace, create the model under a namespace you own", "push to a name of your own, USER/MODEL"),
        ("http: server gave HTTP response to HTTPS client", "write `push: {ollama: {name: NAME, insecure: true}}`"),
        ("dial tcp: lookup registry.ollama.ai: no such host", "mend the registry's address in push.ollama, or the network of the server"),
    ],
)
def test_a_registry_that_refuses_is_told_with_a_fix(pushing: Repo, says: str, fix: str) -> None:
    assert pushing.doit().code == 0
    pushing.server.refusals.append(Refusal("/api/push", 500, says))
    result = pushing.doit("push")
    assert result.code == 1
    assert f"can't push team/legal:latest: http://{pushing.server.host} says: {says}\n  fix: {fix}" in result.out
    assert "team/legal:latest" not in pushing.server.models
    assert pushing.doit("push").ran == ["push:legal"]


def test_a_dry_run_sends_nothing(pushing: Repo) -> None:
    result = pushing.doit("push", "--dry-run")
    assert result.code == 4
    assert result.out.startswith(".  push:legal  to ollama team/legal:latest  (")
    assert (pushing.trainings, pushes(pushing)) == ([], [])
    assert pushing.doit("push").code == 0
    result = pushing.doit("push", "--dry-run")
    assert (result.code, result.out) == (0, "nothing to push: 1 model is where it belongs\n")


def test_json_is_all_of_standard_output(pushing: Repo) -> None:
    result = pushing.doit("push", "--json")
    said = json.loads(result.out)
    assert (result.code, said["ok"]) == (0, True)
    ((model,),) = [said["models"]]
    assert (model["model"], model["due"][0]["target"], model["left"]) == ("legal", "team/legal:latest", [])


def test_models_that_are_not_published_are_said_to_be_so(pushing: Repo) -> None:
    result = pushing.doit("push", "sales")
    assert result.code == 3
    assert "models.yaml:" in result.err
    assert "model 'sales' has no `push`\n  fix: write `push: {ollama: USER/MODEL}`, or `push: {hub: OWNER/NAME}`, into its entry\n" in result.err


@pytest.mark.parametrize(
    ("push", "said"),
    [
        ("{ollama: legal}", "push.ollama: 'legal' names nobody whose model it is\n  fix: write USER/legal, as you are called on ollama.com\n"),
        ("{ollama: 'http://a/b/c'}", "push.ollama: 'http://a/b/c' can't be a model in a registry\n"),
        ("{hub: legal}", "push.hub: 'legal' is no repo of the Hub\n  fix: write OWNER/NAME, as the repo's page is called\n"),
        ("{hub: {private: true}}", "missing key 'repo'"),
    ],
)
def test_what_is_wrong_with_push_is_said_at_its_line(pushing: Repo, push: str, said: str) -> None:
    pushing.replace("{ollama: team/legal}", push)
    result = pushing.doit()
    assert result.code == 3
    assert f"models.yaml:{13}: " in result.err
    assert said in result.err


def test_two_models_are_not_pushed_to_one_name(pushing: Repo) -> None:
    pushing.replace("data: [shared, tone]", "data: [shared, tone]\n    push: {ollama: team/legal}")
    result = pushing.doit()
    assert "model 'sales': push.ollama: team/legal:latest is where model 'legal' is pushed\n  fix: name another" in result.err


def test_a_model_s_name_may_stand_in_the_name(pushing: Repo) -> None:
    pushing.replace("{ollama: team/legal}", '{ollama: "team/{name}:v1"}')
    assert pushing.doit("push").code == 0
    assert list(pushing.server.pushed) == ["team/legal:v1"]


def test_a_name_is_not_taken_away_where_it_is_not_known_whether_it_was_there(pushing: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pushing.doit("push").code == 0
    pushing.server.models["team/legal:latest"] = pushing.server.models["legal:latest"]
    monkeypatch.setattr(to_registry, "digests_at", lambda _: None)
    with OllamaServer(address_of(pushing.server.host)) as server:
        to_registry.push_model(server, "legal:latest", "team/legal:latest", insecure=False)
    assert "team/legal:latest" in pushing.server.models
