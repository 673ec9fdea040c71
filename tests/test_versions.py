"""`doit rollback`, `history`, `prune` and `diff`: the versions of a model, before a server that counts what is asked."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo
from fake_ollama import Asked, FakeOllama, Refusal
from ollamake.commands.diff import side_by_side
from ollamake.errors import BuildError
from ollamake.ollama.address import address_of
from ollamake.ollama.client import OllamaServer
from ollamake.stages.compared import Compared
from ollamake.stages.rollback import roll_back, target_of
from ollamake.state.run_lock import RunLock


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
        "so it stays until its adapter, how it is served (`serve:`) or its tests change\n"
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


def test_a_version_that_was_put_back_by_hand_is_known(two: Repo) -> None:
    two.server.models["legal:latest"] = two.server.models["legal:previous"]
    two.server.counts.clear()
    (found,) = json.loads(two.doit("status", "--json", "legal").out)["models"]
    assert without_times(found["drift"][0]) == "replaced by hand: it is the version of THEN"
    assert two.server.counts["show"] == 0


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
    assert (two.doit().ran, latest(two), latest(two, "previous")) == ([], good, bad)
    assert "legal:rolling-back" not in two.server.models


def test_a_roll_back_that_is_cut_off_when_the_name_was_given_stays(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    two.server.refusals.append(Refusal("/api/copy", 500, "out of space", after=2))
    assert two.doit("rollback", "legal").code == 3
    assert (latest(two), latest(two, "rolling-back")) == (good, bad)
    assert (two.doit().ran, latest(two)) == ([], good)
    result = two.doit("rollback", "legal")
    assert (result.code, result.out.splitlines()[0]) == (0, f"legal:latest on http://{two.server.host} is {good[:12]} already")
    assert (latest(two), latest(two, "previous")) == (good, bad)
    assert "legal:rolling-back" not in two.server.models


def test_a_roll_back_that_is_cut_off_before_the_name_was_given_is_none(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    two.server.refusals.append(Refusal("/api/copy", 500, "out of space", after=1))
    assert two.doit("rollback", "legal").code == 3
    assert "rolled back" not in two.doit("history", "legal").out
    assert (two.doit().ran, latest(two), latest(two, "previous")) == ([], bad, good)


def test_a_roll_back_that_is_killed_when_the_name_was_given_stays(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "doit", "rollback", "legal"])
    two.server.refusals.append(Refusal("/api/copy", 500, "too late", after=2, does=process.kill))  # long before it is there
    assert process.wait() == -signal.SIGKILL
    assert (latest(two), latest(two, "previous"), latest(two, "rolling-back")) == (good, good, bad)
    assert (two.doit().ran, latest(two)) == ([], good)
    assert two.doit("rollback", "legal").code == 0
    assert (latest(two), latest(two, "previous")) == (good, bad)
    assert two.doit("history", "legal").out.count("rolled back") == 1


def test_versions_that_another_build_has_changed_since_are_not_rolled_back(two: Repo) -> None:
    address = address_of(two.server.host)
    with OllamaServer(address) as server:
        to, digest = target_of(server, "legal", address.file_name, "previous")
        two.server.models["legal:previous"] = two.server.models["legal:latest"]
        two.server.models["legal:latest"] = {"files": {}, "system": "Of another clone."}
        models = dict(two.server.models)
        with pytest.raises(BuildError, match="were changed by another build just now\n  fix: look at them with `doit history legal`"):
            roll_back(server, "legal", to, digest, keep=1, remembered=nullcontext())
    assert two.server.models == models


def test_a_version_that_a_roll_back_has_left_nowhere_else_is_never_lost(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    for tag, other in (("rolling-back", "latest"), ("latest", "previous"), ("candidate", "rolling-back")):
        two.server.models[f"legal:{tag}"] = two.server.models[f"legal:{other}"]
    facts = pruned(two)
    assert [one["model"] for one in facts["models"]] == ["legal:candidate"]
    assert facts["left"][0]["why"] == "of a roll-back that was cut off: `doit rollback` finishes it"
    assert two.doit("rollback", "legal", "--to", bad[:12]).code == 0
    assert (latest(two), latest(two, "previous")) == (bad, good)
    assert "legal:rolling-back" not in two.server.models


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


@pytest.fixture
def both(repo: Repo, other: FakeOllama) -> Repo:
    """A repo with two versions of its models on two servers."""
    text = Path("models.yaml").read_text(encoding="utf-8")
    Path("models.yaml").write_text(f"{text}ollama: {{host: ['{repo.server.host}', '{other.host}']}}\n", encoding="utf-8")
    assert repo.doit().code == 0
    edit(repo, 3, "A bad answer.")
    assert repo.doit().code == 0
    return repo


def test_a_model_is_rolled_back_on_all_servers_or_on_one(both: Repo, other: FakeOllama) -> None:
    good, bad = latest(both, "previous"), latest(both)
    assert both.doit("rollback", "legal", "--host", other.host).code == 0
    assert (latest(both), other.digest("legal:latest")) == (bad, good)
    assert both.doit().ran == []
    rows = json.loads(both.doit("status", "legal", "--json").out)["models"]
    assert [(row["host"], row["is_there"]) for row in rows] == [(f"http://{both.server.host}", "latest"), (f"http://{other.host}", "rolled back")]
    result = both.doit("rollback", "legal", "--to", good[:12])
    assert result.out.splitlines() == [
        f"legal:latest on http://{both.server.host} is {good[:12]} again, and {bad[:12]} is legal:previous",
        f"legal:latest on http://{other.host} is {good[:12]} already",
        "so it stays until its adapter, how it is served (`serve:`) or its tests change",
    ]
    assert both.doit().ran == []
    assert [facts["host"] for facts in json.loads(both.doit("history", "legal", "--json").out)] == [
        f"http://{at}" for at in (both.server.host, other.host)
    ]


def test_where_one_of_several_servers_lacks_the_version_none_is_changed(both: Repo, other: FakeOllama) -> None:
    bad = latest(both)
    del other.models["legal:previous"]
    assert both.doit("rollback", "legal").code == 3
    assert latest(both) == bad


def test_where_one_of_several_servers_does_not_answer_the_others_are_rolled_back_by_name(both: Repo, other: FakeOllama) -> None:
    good, bad = latest(both, "previous"), latest(both)
    other.close()
    result = both.doit("rollback", "legal")
    assert (result.code, latest(both)) == (3, bad)
    assert f"nothing answers at http://{other.host}\n  fix: start Ollama there: `ollama serve`" in result.err
    assert both.doit("rollback", "legal", "--host", both.server.host).code == 0
    assert latest(both) == good
    assert f"legal on http://{other.host}, which does not answer\n" in both.doit("history", "legal").out


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


def without_sales() -> None:
    path = Path("models.yaml")
    path.write_text(path.read_text(encoding="utf-8").partition("  sales:\n")[0], encoding="utf-8")


def pruned(repo: Repo, *arguments: str) -> dict[str, Any]:
    result = repo.doit("prune", "--json", *arguments)
    assert result.code == 0
    facts: dict[str, Any] = json.loads(result.out)
    return facts


def test_there_is_nothing_to_prune_of_what_is_used(two: Repo) -> None:
    models = dict(two.server.models)
    result = two.doit("prune")
    assert (result.code, result.out, result.err) == (0, "nothing to remove\n", "")
    assert two.server.models == models
    assert two.doit().ran == []


def test_a_model_that_left_the_catalog_is_pruned_and_its_adapter_only_when_asked(two: Repo) -> None:
    without_sales()
    host, before, previous = f"http://{two.server.host}", two.server.digest("sales:latest")[:12], two.server.digest("sales:previous")[:12]
    said = two.doit("prune", "--dry-run").out
    assert re.sub(r"\d[\d.]* (bytes|KB|MB)", "SIZE", said).splitlines() == [
        f"would remove sales:latest ({before}) on {host}: in the catalog no more",
        f"would remove sales:previous ({previous}) on {host}: in the catalog no more",
        "would remove build/sales (SIZE): sales is in the catalog no more",
        "would remove .ollamake/curves/sales (SIZE): sales is in the catalog no more",
        "left: adapters/sales: sales is in the catalog no more, and was trained: `doit prune --adapters` removes it (SIZE)",
        "would remove 2 versions of models and 2 places on the disk, SIZE",
    ]
    assert "sales:latest" in two.server.models
    assert Path("build/sales").is_dir()
    facts = pruned(two)
    assert [one["model"] for one in facts["models"]] == ["sales:latest", "sales:previous"]
    assert sorted(two.server.models) == ["legal:latest", "legal:previous"]
    assert (Path("build/sales").exists(), Path("adapters/sales").exists()) == (False, True)
    assert not list(Path(".ollamake").rglob("*sales*"))
    assert two.doit("prune", "--adapters").code == 0
    assert not Path("adapters/sales").exists()
    assert two.doit("prune", "--adapters").out == "nothing to remove\n"
    assert two.doit("build", "legal").ran == []


def test_what_was_replaced_by_hand_stays(two: Repo) -> None:
    without_sales()
    two.server.models["sales:latest"] = {"files": two.server.models["legal:latest"]["files"], "system": "Mine."}
    two.server.models["sales:v1"] = two.server.models["sales:latest"]
    two.server.models["other:latest"] = two.server.models["sales:latest"]
    facts = pruned(two)
    assert [one["model"] for one in facts["models"]] == ["sales:previous"]
    host = f"http://{two.server.host}"
    assert facts["left"][:2] == [
        {"what": f"sales:latest on {host}", "why": "was not made here, or was replaced by hand"},
        {"what": f"sales:v1 on {host}", "why": "has a tag of somebody's own"},
    ]
    assert {"sales:latest", "sales:v1", "other:latest"} <= two.server.models.keys()
    assert pruned(two)["models"] == []


def test_a_tag_of_somebodys_own_stays_when_its_model_leaves_the_catalog(two: Repo) -> None:
    without_sales()
    two.server.models["sales:backup"] = two.server.models["sales:latest"]
    facts = pruned(two)
    assert [one["model"] for one in facts["models"]] == ["sales:latest", "sales:previous"]
    assert facts["left"][0] == {"what": f"sales:backup on http://{two.server.host}", "why": "has a tag of somebody's own"}
    assert "sales:backup" in two.server.models


def test_a_shard_that_no_model_has_any_more_is_pruned_and_is_not_counted_while_one_has_it(repo: Repo) -> None:
    repo.server.version = "0.34.0"
    repo.replace("defaults:\n", "defaults:\n  serve: {weights: split}\n")
    assert repo.doit().code == 0
    (shard,) = Path("build/.shared").glob("*.gguf")
    text = Path("models.yaml").read_text(encoding="utf-8")
    without_sales()
    facts = pruned(repo)
    assert [one["path"] for one in facts["files"]] == ["build/sales", ".ollamake/curves/sales"]
    assert facts["bytes"] < shard.stat().st_size
    assert shard.exists()
    Path("models.yaml").write_text(text.partition("  legal:\n")[0] + "  new: {base: tiny, data: [shared]}\n", encoding="utf-8")
    pruned(repo)
    assert not shard.exists()


def test_a_line_of_the_history_that_is_torn_takes_no_other_with_it(two: Repo) -> None:
    (path,) = Path(".ollamake/hosts").glob("*/history/legal.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert two.doit("rollback", "legal").code == 0
    (facts,) = json.loads(two.doit("history", "legal", "--json").out)
    assert [version["how"] for version in facts["versions"]] == ["rolled back", "promoted"]


def test_a_version_that_had_its_name_before_it_was_noted_replaces_the_one_before(two: Repo) -> None:
    (path,) = Path(".ollamake/hosts").glob("*/history/legal.jsonl")
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])  # killed behind the tags
    two.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Who?", expect: {contains: "I am"}}]\n')
    assert two.doit("build", "legal").ran == ["test:legal"]
    (facts,) = json.loads(two.doit("history", "legal", "--json").out)
    assert [(version["digest"], version["replaced"]) for version in facts["versions"]] == [
        (f"sha256:{latest(two)}", f"sha256:{latest(two, 'previous')}"),
        (f"sha256:{latest(two, 'previous')}", None),
    ]


def test_leavings_of_a_catalogs_models_are_pruned(two: Repo) -> None:
    models = two.server.models
    adapter = models["legal:latest"].get("adapters", {})
    base = next(digest for digest in two.server.weights("legal:latest") if digest not in adapter.values())
    models["legal:base"] = {"files": {"model.gguf": base}, "system": "As the model's."}
    models["sales:base"] = {"files": {"model.gguf": "sha256:" + "0" * 64}}
    models["legal:previous-2"] = models["legal:previous"]
    models["legal:previous-3"] = {"files": {"model.gguf": base}, "system": "By hand."}
    models["legal:rolling-back"] = models["legal:latest"]
    facts = pruned(two)
    assert [(one["model"], one["why"]) for one in facts["models"]] == [
        ("legal:base", "of a test that was cut off"),
        ("legal:previous-2", "an older version than `ollama.keep` keeps"),
        ("legal:rolling-back", "of a roll-back that was cut off"),
    ]
    assert sorted(models) == ["legal:latest", "legal:previous", "legal:previous-3", "sales:base", "sales:latest", "sales:previous"]


def test_a_candidate_that_failed_is_pruned_and_one_that_waits_is_not(built: Repo) -> None:
    built.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Question 1?", expect: {contains: "Answer"}}]\n')
    edit(built, 3, "Another answer.")
    assert built.doit("build", "legal").code == 1
    (report,) = (path for path in Path(".ollamake").rglob("reports/legal/*.json") if not json.loads(path.read_text(encoding="utf-8"))["passed"])
    text = report.read_text(encoding="utf-8")
    report.unlink()
    assert pruned(built)["models"] == []
    report.write_text(text, encoding="utf-8")
    assert [(one["model"], one["why"]) for one in pruned(built)["models"]] == [("legal:candidate", "a candidate that failed its tests")]
    assert not report.exists()


def test_an_adapter_that_another_model_uses_stays(two: Repo) -> None:
    path = Path("models.yaml")
    text = path.read_text(encoding="utf-8").partition("  sales:\n")[0]
    path.write_text(f"{text}  shop: {{base: tiny, adapter: adapters/sales}}\n", encoding="utf-8")
    pruned(two, "--adapters")
    assert Path("adapters/sales/adapter_config.json").is_file()


def test_adapters_that_were_not_trained_here_stay(two: Repo) -> None:
    without_sales()
    shutil.copytree("adapters/sales", "adapters/from-the-cluster")
    Path("adapters/from-the-cluster/receipt.json").unlink()
    Path("build/mine").mkdir()
    Path("build/mine/notes.txt").write_text("mine", encoding="utf-8")
    pruned(two, "--adapters")
    assert sorted(path.name for path in Path("adapters").iterdir()) == ["from-the-cluster", "legal"]
    assert Path("build/mine/notes.txt").is_file()


def test_a_server_that_does_not_answer_is_left_alone(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    assert two.doit("prune").out == ("left: http://gpu-box.invalid:11434: does not answer: what it has is not looked at\nnothing to remove\n")


def differing(repo: Repo) -> None:
    """The versions answer otherwise where they are asked of 3; all but the base alike elsewhere."""

    def answer(asked: Asked) -> str:
        return f"I am {asked.name}" if "3" in asked.question or asked.name.endswith(":base") else "As ever"

    repo.server.answer = answer


def test_two_versions_are_shown_side_by_side(two: Repo) -> None:
    differing(two)
    two.replace(
        "    data: [shared]\n",
        '    data: [shared]\n    tests: [{ask: "What of 3?", expect: {contains: I}}, {keeps: ["Hello?", "What of 3?"]}, {chat: [{role: user, content: "And 4?"}], expect: {contains: I}}]\n',
    )
    good, bad = latest(two, "previous")[:12], latest(two)[:12]
    two.server.asked.clear()
    result = two.doit("diff", "legal")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        f"legal on http://{two.server.host}: previous ({good}) and latest ({bad}), 3 prompts\n"
        "\n1. What of 3?\n  previous: I am legal:previous\n  latest:   I am legal:latest\n"
        "\n2. Hello?\n  same:     As ever\n"
        "\n3. And 4?\n  same:     As ever\n"
        "\n2 of 3 answers are the same\n"
    )
    assert [asked["model"] for asked in two.server.asked] == ["legal:previous"] * 3 + ["legal:latest"] * 3  # each is loaded once
    assert {asked["options"]["temperature"] for asked in two.server.asked} == {0}


def test_without_tests_it_asks_what_it_was_trained_on(two: Repo) -> None:
    differing(two)
    facts = json.loads(two.doit("diff", "legal", "latest", latest(two, "previous")[:8], "--json").out)
    assert json.loads(two.doit("diff", "legal", "legal", "Legal:previous", "--json").out) == facts
    assert (facts["model"], facts["a"]["tag"], facts["b"]["tag"], facts["same"]) == ("legal", "latest", "previous", 4)
    assert [(one["question"], one["same"]) for one in facts["prompts"]] == [(f"Question {number}?", number != 3) for number in range(5)]
    assert facts["prompts"][3] == {"question": "Question 3?", "a": "I am legal:latest", "b": "I am legal:previous", "same": False}


def test_the_base_is_compared_and_is_gone_afterwards(two: Repo) -> None:
    differing(two)
    facts = json.loads(two.doit("diff", "legal", "base", "--json").out)
    assert (facts["a"]["tag"], facts["b"]["tag"], facts["same"]) == ("base", "latest", 0)
    assert facts["prompts"][0]["a"] == "I am legal:base"
    assert "legal:base" not in two.server.models
    two.server.refusals.append(Refusal("/api/chat", 500, "out of memory"))
    assert two.doit("diff", "legal", "base").code == 3
    assert "legal:base" not in two.server.models


def test_the_base_is_gone_also_after_ctrl_c(two: Repo) -> None:
    def interrupted(_: Asked) -> str:
        signal.raise_signal(signal.SIGINT)
        return "too late"

    two.server.answer = interrupted
    assert two.doit("diff", "legal", "base").code == 130
    assert "legal:base" not in two.server.models


def test_what_can_not_be_compared_is_said(two: Repo) -> None:
    host = f"http://{two.server.host}"
    for arguments, wanted in (
        ((), "usage: doit diff MODEL [A [B]]"),
        (("legal", "latest", "latest"), f"latest and latest are one version of legal: {latest(two)[:12]}\n  fix: `doit history legal` lists them"),
        (("legal", "latest", "v1"), f"legal on {host} has no version 'v1'\n  fix: known: latest, previous; or the first digits"),
    ):
        result = two.doit("diff", *arguments)
        assert (result.code, result.err.strip().removeprefix("ERROR: ").strip()[: len(wanted)]) == (3, wanted)


def test_on_a_wide_terminal_answers_stand_beside_one_another() -> None:
    prompts = [Compared(question="What of 3?", a="One word", b="Another word, and more of them"), Compared(question="Hello?", a="Hi", b="Hi")]
    text = side_by_side(prompts, ("previous", "latest"), width=60)
    assert text.splitlines() == [
        "1. What of 3?",
        "  previous                    latest",
        "  One word                    Another word, and more of",
        "                              them",
        "",
        "2. Hello?",
        "  same: Hi",
    ]


def test_a_tag_of_somebodys_own_can_be_gone_back_to_and_stays_what_it_is(two: Repo) -> None:
    good, bad = latest(two, "previous"), latest(two)
    two.server.models["legal:v1"] = two.server.models["legal:previous"]
    del two.server.models["legal:previous"]
    assert two.doit("rollback", "legal", "--to", "v1").code == 0
    assert [latest(two, tag) for tag in ("latest", "previous", "v1")] == [good, bad, good]
    assert two.doit().ran == []


@pytest.mark.parametrize("command", [("rollback", "legal"), ("prune",), ("diff", "legal", "base")])
def test_nothing_is_changed_while_a_build_is_on(two: Repo, command: tuple[str, ...]) -> None:
    lock = RunLock(two.path)
    lock.hold()
    try:
        models = dict(two.server.models)
        result = two.doit(*command)
        assert result.code == 3
        assert "this repo is being built by the doit that has started this one\n  fix: name what has to be built first" in result.err
        assert two.server.models == models
    finally:
        lock.release()
    assert two.doit("prune").code == 0
