"""`doit push`: what passed its tests goes where the catalog says, once; and nothing else publishes anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from queue import Queue
from typing import Any

import pytest

from conftest import DODO, Repo, without_times
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


def test_where_nothing_is_to_be_pushed_the_server_is_asked_once(pushing: Repo) -> None:
    pushing.replace("data: [shared, tone]", 'data: [shared, tone]\n    push: {ollama: "team/{name}"}')
    assert pushing.doit("push").code == 0
    pushing.server.counts.clear()
    assert pushing.doit("push").ran == []
    assert pushing.server.counts["/api/tags"] == 1


def test_a_name_that_can_not_be_taken_away_again_is_told_and_fails_no_push(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    pushing.server.refusals.append(Refusal("/api/delete", 503, "gateway down", method="DELETE", times=9))
    result = pushing.doit("push")
    assert result.code == 0, result.out + result.err
    assert "   warning: team/legal:latest stays on the server: " in result.out
    assert "     fix: ollama rm team/legal:latest\n" in result.out
    assert pushing.doit("push").ran == []


@pytest.mark.parametrize("words", [("push",), ("push", "-n", "2")])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_name_of_a_push_that_was_cut_off_is_taken_away_by_the_next_run(pushing: Repo, words: tuple[str, ...], number: int) -> None:
    (pushing.path / "dodo.py").write_text(DODO, encoding="utf-8")
    assert pushing.doit().code == 0
    builds: Queue[subprocess.Popen[bytes]] = Queue()

    def cuts_off() -> None:
        build = builds.get()
        os.killpg(build.pid, number)
        build.wait()

    pushing.server.refusals.append(Refusal("/api/push", 500, "too late", does=cuts_off))
    builds.put(build := subprocess.Popen([sys.executable, "-m", "doit", *words], cwd=pushing.path, start_new_session=True))
    assert build.wait() == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    is_left = "team/legal:latest" in pushing.server.models
    assert is_left or number == signal.SIGINT
    assert pushing.doit().ran == []
    assert "team/legal:latest" not in pushing.server.models
    assert not (pushing.path / ".ollamake/pushing").exists()
    assert pushing.doit("push").ran == ["push:legal"]


def test_a_name_that_somebody_has_given_since_is_not_taken_away(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    note = pushing.path / ".ollamake/pushing/0.json"
    note.parent.mkdir()
    said = {"server": f"http://{pushing.server.host}", "name": "team/legal:latest", "digest": f"sha256:{pushing.server.digest('legal:latest')}"}
    note.write_text(json.dumps(said), encoding="utf-8")
    pushing.server.models["team/legal:latest"] = pushing.server.models["sales:latest"]
    assert pushing.doit().ran == []
    assert "team/legal:latest" in pushing.server.models
    assert not note.exists()


def test_what_a_server_that_is_away_has_is_taken_away_when_it_is_back(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    note = pushing.path / ".ollamake/pushing/0.json"
    note.parent.mkdir()
    said = {"server": "http://127.0.0.1:9", "name": "team/legal:latest", "digest": "sha256:0"}
    note.write_text(json.dumps(said), encoding="utf-8")
    assert (pushing.doit().code, note.exists()) == (0, True)
    note.write_text(json.dumps({**said, "server": f"http://{pushing.server.host}"}), encoding="utf-8")
    assert (pushing.doit().code, note.parent.exists()) == (0, False)


@pytest.mark.parametrize("known", ["[]", '{"ollama": "x"}', '{"ollama": {"target": "team/legal:latest"}}'])
def test_a_memory_that_was_damaged_is_none(pushing: Repo, known: str) -> None:
    assert pushing.doit("push").code == 0
    (pushing.path / ".ollamake/pushed/legal.json").write_text(known, encoding="utf-8")
    assert pushing.doit("push").ran == ["push:legal"]


def test_what_is_sent_once_more_by_hand_is_not_left(pushing: Repo) -> None:
    assert pushing.doit("push").code == 0
    ((model,),) = [json.loads(pushing.doit("push", "-a", "--json").out)["models"]]
    assert (len(model["due"]), model["left"]) == (1, [])
    assert len(pushes(pushing)) == 2


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


def test_what_was_not_built_is_not_pushed_alone(pushing: Repo) -> None:
    result = pushing.doit("push", "--single")
    assert result.code == 1
    what = f"models.yaml:13: model 'legal': no legal:latest is on http://{pushing.server.host}: none has passed its tests yet\n  fix: `doit push legal`\n"
    assert what in result.out


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
        ("401: {}", "the server's own key has to be in your account"),
        ("500: ", "look after the registry, or mend push.ollama; then `doit push` again"),
        ("file does not exist", "look after the registry, or mend push.ollama; then `doit push` again"),
        ("http: server gave HTTP response to HTTPS client", "write `push: {ollama: {name: NAME, insecure: true}}`"),
        ("dial tcp: lookup registry.ollama.ai: no such host", "mend the registry's address in push.ollama, or the network of the server"),
    ],
)
def test_a_registry_that_refuses_is_told_with_a_fix(pushing: Repo, says: str, fix: str) -> None:
    assert pushing.doit().code == 0
    pushing.server.refusals.append(Refusal("/api/push", 500, says))
    result = pushing.doit("push")
    assert result.code == 1
    assert f"can't push team/legal:latest: http://{pushing.server.host} says: {says.strip()}\n  fix: {fix}" in result.out
    assert without_times(result.out).endswith("\nthen go on with: doit push\n1 model: 1 fresh, but push:legal failed\n")
    assert "team/legal:latest" not in pushing.server.models
    assert pushing.doit("push").ran == ["push:legal"]


def test_what_lets_somebody_in_where_files_are_kept_is_not_said(pushing: Repo) -> None:
    assert pushing.doit().code == 0
    pushing.server.refusals.append(Refusal("/api/push", 500, 'Put "https://files.example/blob?X-Amz-Signature=0123&x=1": EOF'))
    assert 'says: Put "https://files.example/blob": EOF\n' in pushing.doit("push").out


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
    assert result.err.startswith(".  validate:shared  (not built yet)\n")
    assert without_times(result.err).rpartition(" in ")[0].endswith("\n1 model: 1 rebuilt")


def test_what_is_wrong_is_said_in_words_with_json_too(pushing: Repo) -> None:
    result = pushing.doit("push", "sales", "--json")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("ERROR: \nmodels.yaml:")


def test_models_that_are_not_published_are_said_to_be_so(pushing: Repo) -> None:
    result = pushing.doit("push", "sales")
    assert result.code == 3
    assert "models.yaml:" in result.err
    assert "model 'sales' has no `push`\n  fix: write `push: {ollama: USER/MODEL}`, or `push: {hub: OWNER/NAME}`, into its entry\n" in result.err


@pytest.mark.parametrize(
    ("push", "said"),
    [
        ("{ollama: legal}", "push.ollama: 'legal' names nobody whose model it is\n  fix: write USER/legal, as you are called on ollama.com\n"),
        ("{ollama: library/sales}", "push.ollama: 'library/sales' names nobody whose model it is\n  fix: write USER/sales, as you are called on"),
        ("{ollama: 'registry.ollama.ai/library/sales:v1'}", "names nobody whose model it is\n  fix: write USER/sales:v1, as you are called on"),
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


@pytest.mark.parametrize("name", ["team/legal:latest", "Team/Legal:latest", "registry.ollama.ai/team/legal:latest"])
def test_two_models_are_not_pushed_to_one_name(pushing: Repo, name: str) -> None:
    pushing.replace("data: [shared, tone]", f"data: [shared, tone]\n    push: {{ollama: '{name}'}}")
    result = pushing.doit()
    assert f"model 'sales': push.ollama: {name} is where model 'legal' is pushed\n  fix: name another" in result.err


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
