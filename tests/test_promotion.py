"""A model is asked as a candidate, and has its name only where it answers well: on each of its servers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DODO, Repo, without_times
from fake_ollama import Asked, FakeOllama, Refusal
from ollamake.seal import sealed

ASKS = '    tests: [{ask: "Who?", expect: {contains: "%s"}}]\n'


def tags(server: FakeOllama, name: str = "legal") -> dict[str, str]:
    """The digest of each version of a model by its tag."""
    return {full.partition(":")[2]: f"sha256:{server.digest(full)}" for full in server.models if full.partition(":")[0] == name}


def as_trained(asked: Asked) -> str:
    return "I am the base" if asked.name.endswith(":base") else "I am legal"


def ask_for(repo: Repo, text: str) -> None:
    """Have the catalog ask model legal one question, whose answer is to contain this."""
    lines = Path("models.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith("    tests:"))
    Path("models.yaml").write_text(kept.replace("  legal:\n", f"  legal:\n{ASKS % text}"), encoding="utf-8")
    repo.server.answer = as_trained


@pytest.fixture
def asked(built: Repo) -> Repo:
    """A build whose model legal has passed a test of the catalog's."""
    ask_for(built, "legal")
    assert built.doit().ran == ["test:legal"]
    return built


def serve(repo: Repo, system: str) -> None:
    """Have another version of model legal, for which nothing trains."""
    lines = Path("models.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith("    serve: {system"))
    Path("models.yaml").write_text(kept.replace("  legal:\n", f"  legal:\n    serve: {{system: {system}}}\n"), encoding="utf-8")


def test_a_model_is_tested_once_and_what_was_tested_is_left_alone(repo: Repo) -> None:
    ask_for(repo, "legal")
    result = repo.doit("build", "legal")
    assert result.ran[-2:] == ["register:legal", "test:legal"]
    assert set(tags(repo.server)) == {"latest"}
    before = len(repo.server.asked)
    assert repo.doit("build", "legal").ran == []
    assert len(repo.server.asked) == before


def test_another_test_asks_again_and_makes_no_candidate(asked: Repo) -> None:
    server = asked.server
    server.requests.clear()
    ask_for(asked, "I am")
    result = asked.doit()
    assert result.ran == ["test:legal"]
    assert ".  test:legal  (tests: " in result.out
    made = [value["model"] for _, path, value in server.requests if path == "/api/create"]
    assert made == ["legal:base"]  # for the comparison with it
    assert not [path for _, path, _ in server.requests if path == "/api/copy"]
    assert asked.trainings == ["legal", "sales"]


def test_a_candidate_that_fails_never_is_the_model_and_mending_the_test_promotes_it(asked: Repo) -> None:
    server, before = asked.server, tags(asked.server)
    serve(asked, "Short.")
    ask_for(asked, "a lawyer")
    result = asked.doit()
    assert (result.code, result.ran) == (1, ["register:legal", "test:legal"])
    assert 'it does not contain "a lawyer"' in result.out
    assert f"legal on http://{server.host} stays what it is; to look at the one that failed: doit ask legal:candidate" in result.out
    assert result.out.splitlines()[-1].startswith("2 models: ")
    assert "1 failed" in result.out.splitlines()[-1]
    assert tags(server)["latest"] == before["latest"]
    candidate = tags(server)["candidate"]
    assert candidate != before["latest"]
    again = asked.doit()
    assert (again.code, again.ran) == (1, ["test:legal"])
    assert tags(server)["latest"] == before["latest"]
    ask_for(asked, "legal")
    mended = asked.doit()
    assert (mended.code, mended.ran) == (0, ["test:legal"])
    assert tags(server) == {"latest": candidate, "previous": before["latest"]}


def test_a_first_model_that_fails_has_no_name(repo: Repo) -> None:
    ask_for(repo, "a lawyer")
    result = repo.doit("build", "legal")
    assert result.code == 1
    assert f"no legal is on http://{repo.server.host}" in result.out
    assert set(tags(repo.server)) == {"candidate"}
    report = json.loads(Path("build/legal/tests.json").read_text(encoding="utf-8"))
    assert report["passed"] is False
    assert "<failure" in Path("build/legal/tests.xml").read_text(encoding="utf-8")


def test_one_that_fails_keeps_no_other_from_its_name(built: Repo) -> None:
    before = tags(built.server, "sales")["latest"]
    built.server.answer = lambda asked: f"I am {asked.name}"
    ask_for(built, "legal")
    serve(built, "Short.")
    built.replace("temperature: 0.2", "temperature: 0.9")
    built.replace("{system: Short.}", '{system: Short., template: "{{ .Prompt }}!"}')
    built.server.template = "{{ .Prompt }}"  # so sales, without a template of its own, can't be served
    result = built.doit()
    assert result.code == 1
    assert result.ran == ["register:legal", "test:legal", "register:sales"]
    assert set(tags(built.server)) == {"latest", "previous"}
    assert tags(built.server, "sales") == {"latest": before}


def test_versions_before_are_kept_as_many_as_are_wanted(built: Repo) -> None:
    built.replace("version: 1\n", "version: 1\nollama: {keep: 2}\n")
    seen = [tags(built.server)["latest"]]
    for system in ("One.", "Two.", "Three."):
        serve(built, system)
        assert built.doit().ran == ["register:legal", "test:legal"]
        seen.append(tags(built.server)["latest"])
    assert len(set(seen)) == 4
    assert tags(built.server) == {"latest": seen[3], "previous": seen[2], "previous-2": seen[1]}
    assert built.doit().ran == []
    lines = [json.loads(line) for line in next(Path(".ollamake/hosts").glob("*/history/legal.jsonl")).read_text(encoding="utf-8").splitlines()]
    assert [line["digest"] for line in lines] == seen
    assert [line["replaced"] for line in lines] == [None, *seen[:3]]


def test_a_shift_that_is_cut_off_loses_no_version_when_it_goes_on(built: Repo) -> None:
    built.replace("version: 1\n", "version: 1\nollama: {keep: 3}\n")
    for system in ("One.", "Two.", "Three."):
        serve(built, system)
        assert built.doit().code == 0
    before = tags(built.server)
    for number, copied in enumerate((1, 2, 3)):
        serve(built, f"More {number}.")
        built.server.refusals.append(Refusal("/api/copy", 500, "out of space", after=copied))
        assert built.doit().code == 1
        assert set(before.values()) - set(tags(built.server).values()) == {before["previous-3"]}
        assert built.doit().code == 0
        now = tags(built.server)
        assert [now["previous"], now["previous-2"], now["previous-3"]] == [before["latest"], before["previous"], before["previous-2"]]
        before = now


@pytest.mark.parametrize("copied", [1, 2, 3])
def test_a_roll_back_that_was_cut_off_is_finished_by_the_next_promotion(built: Repo, copied: int) -> None:
    built.replace("version: 1\n", "version: 1\nollama: {keep: 2}\n")
    serve(built, "One.")
    built.doit()
    good, bad = tags(built.server)["previous"], tags(built.server)["latest"]
    for tag, other in (("rolling-back", "latest"), ("latest", "previous"), ("previous", "rolling-back"))[:copied]:
        built.server.models[f"legal:{tag}"] = built.server.models[f"legal:{other}"]
    left, other = tags(built.server)["latest"], good if copied == 1 else bad
    serve(built, "Two.")
    assert built.doit().code == 0
    now = tags(built.server)
    assert now == {"latest": now["latest"], "previous": left, "previous-2": other}


def test_a_name_that_is_gone_is_given_again(built: Repo) -> None:
    serve(built, "One.")
    built.doit()
    versions = tags(built.server)
    del built.server.models["legal:latest"]
    result = built.doit()
    assert result.ran == ["register:legal", "test:legal"]
    assert f".  test:legal  (legal is no longer on http://{built.server.host})\n" in result.out
    assert tags(built.server) == versions


def test_a_name_that_was_replaced_by_hand_is_taken_back_and_the_other_kept(built: Repo) -> None:
    digest = tags(built.server)["latest"]
    built.server.models["legal:latest"] = {"files": {}, "system": "By hand."}
    foreign = tags(built.server)["latest"]
    result = built.doit()
    assert result.ran == ["register:legal", "test:legal"]
    assert f".  test:legal  (legal on http://{built.server.host} was replaced by hand)\n" in result.out
    assert tags(built.server) == {"latest": digest, "previous": foreign}


def test_a_version_that_is_there_under_another_tag_is_promoted_without_being_made_again(built: Repo) -> None:
    """As it is where somebody has copied an older version over the latest one, and kept that."""
    digest = tags(built.server)["latest"]
    built.server.models["legal:kept"] = built.server.models["legal:latest"]
    built.server.models["legal:latest"] = {"files": {}, "system": "By hand."}
    assert built.doit().ran == ["test:legal"]
    assert tags(built.server)["latest"] == tags(built.server)["kept"] == digest


def test_numbers_that_people_give_as_tags_stay_theirs(built: Repo) -> None:
    mine = {"files": {}, "system": "Mine."}
    built.server.models.update({"legal:2": mine, "legal:20240501": built.server.models["legal:latest"], "legal:previous-x": mine})
    before = tags(built.server)
    serve(built, "Short.")
    assert built.doit().code == 0
    assert {**tags(built.server), "latest": before["latest"]} == {**before, "previous": before["latest"]}
    assert built.doit("rollback", "legal", "--to", "20240501").code == 0
    assert tags(built.server)["20240501"] == tags(built.server)["latest"] == before["latest"]
    built.doit("prune")
    assert {"2", "20240501", "previous-x"} <= tags(built.server).keys()


def steps(server: FakeOllama, *names: str) -> list[str]:
    return [f"{stage}:{name}@{server.host}" for name in names for stage in ("register", "test")]


def test_each_server_gets_every_model(two: Repo, other: FakeOllama) -> None:
    result = two.doit()
    assert result.code == 0, result.out + result.err
    assert set(steps(two.server, "legal", "sales") + steps(other, "legal", "sales")) < set(result.ran)
    assert set(two.server.models) == set(other.models) == {"legal:latest", "sales:latest"}
    assert two.trainings == ["legal", "sales"]
    assert result.out.splitlines()[-1].startswith("2 models: 2 rebuilt in ")
    assert two.doit().ran == []


def test_a_model_on_all_servers_is_named_without_them(two: Repo, other: FakeOllama) -> None:
    result = two.doit("test:legal")
    assert result.code == 0, result.out + result.err
    assert sorted(result.ran[-4:]) == sorted(steps(two.server, "legal") + steps(other, "legal"))
    assert result.out.splitlines()[-1].startswith("1 model: 1 rebuilt in ")
    del other.models["legal:latest"]
    assert two.doit("build", "legal").ran == steps(other, "legal")
    one = two.doit(f"test:sales@{other.host}")
    assert one.ran[-2:] == steps(other, "sales")
    assert "sales:latest" not in two.server.models


def test_a_server_that_does_not_answer_keeps_no_other_from_its_models(two: Repo, ollama: FakeOllama) -> None:
    dead = FakeOllama()
    dead.close()
    text = Path("models.yaml").read_text(encoding="utf-8")
    Path("models.yaml").write_text(re.sub(r"host: \[.*\]", f"host: [{dead.host}, {ollama.host}]", text), encoding="utf-8")
    result = two.doit()
    assert result.code == 1
    assert set(ollama.models) == {"legal:latest", "sales:latest"}
    assert (
        f"\nregister:legal@{dead.host} failed:\nnothing answers at http://{dead.host}\n  fix: start Ollama there: `ollama serve`; or leave it out of ollama.host\n"
        in result.out
    )
    assert f"\nnot done for that: test:legal@{dead.host}, test:sales@{dead.host}\n" in result.out
    assert "\n2 models: 2 failed in " in result.out
    again = two.doit()
    assert (again.code, again.ran) == (1, [f"register:legal@{dead.host}", f"register:sales@{dead.host}"])
    back = FakeOllama(port=int(dead.host.rpartition(":")[2]))
    try:
        mended = two.doit()
        assert (mended.code, mended.ran) == (0, steps(back, "legal", "sales")), mended.out
        assert set(back.models) == {"legal:latest", "sales:latest"}
        assert two.doit().ran == []
    finally:
        back.close()


def test_a_server_that_lost_a_model_gets_that_one_alone(two: Repo, other: FakeOllama) -> None:
    two.doit()
    del other.models["legal:latest"]
    result = two.doit()
    assert (result.code, result.ran) == (0, steps(other, "legal"))
    assert f"(legal is no longer on http://{other.host})" in result.out
    assert set(other.models) == {"legal:latest", "sales:latest"}


def test_a_model_that_fails_on_one_server_is_used_on_the_other(two: Repo, other: FakeOllama) -> None:
    ask_for(two, "legal")
    other.answer = lambda asked: "I am the base" if asked.name.endswith(":base") else "Who knows?"
    result = two.doit("build", "legal")
    assert result.code == 1
    assert set(tags(two.server)) == {"latest"}
    assert set(tags(other)) == {"candidate"}
    assert f"no legal is on http://{other.host}" in result.out
    other.answer = as_trained
    mended = two.doit("build", "legal")
    assert (mended.code, mended.ran) == (0, [f"test:legal@{other.host}"])
    assert set(tags(other)) == {"latest"}


def test_two_servers_side_by_side(two: Repo, other: FakeOllama) -> None:
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "-n", "2"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert set(two.server.models) == set(other.models) == {"legal:latest", "sales:latest"}
    again = subprocess.run([sys.executable, "-m", "doit", "-n", "2"], capture_output=True, text=True, check=False)
    assert (again.returncode, without_times(again.stdout)) == (0, "2 models: 2 fresh\n")


def test_a_run_without_work_asks_each_server_once_and_is_sealed(two: Repo, other: FakeOllama) -> None:
    two.doit()
    two.doit()
    assert sealed("models.yaml") is not None
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    before = {server.host: server.counts["/api/tags"] for server in (two.server, other)}
    program = """
import sys
from doit.doit_cmd import DoitMain
code = DoitMain().run([])
print(code, [name for name in ("yaml", "jsonschema", "numpy", "gguf", "httpx", "ollama", "rich", "ollamake.run") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (without_times(done.stdout), done.stderr) == ("2 models: 2 fresh\n0 []\n", "")
    assert {server.host: server.counts["/api/tags"] - before[server.host] for server in (two.server, other)} == {two.server.host: 1, other.host: 1}
    del other.models["legal:latest"]
    assert sealed("models.yaml") is None


def test_a_server_is_named_once(two: Repo, other: FakeOllama) -> None:
    two.replace(f"{other.host}]", f"{other.host}, http://{other.host}/]")
    result = two.doit("list")
    assert result.code == 3
    assert f"ollama.host: http://{other.host}/ is http://{other.host}, which is in the list already\n  fix: name each server once" in result.err


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one by one", "side by side"])
def test_a_server_that_refuses_adapters_whatever_its_version_says_gets_merged_weights(repo: Repo, options: tuple[str, ...]) -> None:
    repo.server.refuses_adapters = True  # as a build of somebody's own may that calls itself 0.9.3
    first = repo.doit("build", *options)
    assert first.code == 0, first.out
    if not options:  # what other processes say is not seen here
        assert '.  package:legal  (served weights: "adapter" -> "merged")\n' in first.out
    assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] == "merged"
    assert {"legal:latest", "sales:latest"} <= repo.server.models.keys()
    assert repo.doit("run").ran == []
    refused = repo.server.counts["create"]
    repo.replace("Answer 1.", "Answer one.", "datasets/shared.jsonl")
    assert repo.doit().code == 0
    asked = [path for _, path, asked in repo.server.requests if path == "/api/create" and asked.get("adapters")]
    assert len(asked) <= 2  # one for each model that was on its way when it was found out, and none since
    assert repo.server.counts["create"] > refused


def test_a_server_whose_engine_loads_no_adapters_gets_merged_weights_in_the_same_build(repo: Repo) -> None:
    """Ollama's own engine takes an adapter when the model is made, and refuses it when that is loaded."""
    repo.server.refusals.append(Refusal("/api/chat", 500, "failed to initialize model: loras are not yet implemented"))
    result = repo.doit("build", "legal")
    assert (result.code, result.ran[-4:]) == (0, ["package:legal", "register:legal", "package:legal", "test:legal"]), result.out
    assert '.  package:legal  (served weights: "adapter" -> "merged")\n' in result.out
    assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] == "merged"
    assert "adapters" not in repo.server.models["legal:latest"]
    assert set(tags(repo.server)) == {"latest"}
    assert repo.doit("build", "legal").ran == []
