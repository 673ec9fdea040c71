"""`doit report`: what is shown of models and datasets, and that only what changed is written again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doit.globals import Globals

from conftest import Repo, jsonl
from fake_ollama import FakeOllama
from ollamake.call import Call, begin
from ollamake.loading import loaded
from ollamake.report.facts import DatasetFacts, ModelFacts
from ollamake.state.backend import LockBackend
from ollamake.state.versions import short
from ollamake.survey.datasets import facts_of_datasets
from ollamake.survey.ground import Ground, Looks
from ollamake.survey.growth import growths
from ollamake.survey.models import facts_of_models
from ollamake.survey.site import REPORT

SECRET = "ghp_" + "a1B2" * 9


def report(repo: Repo, *arguments: str) -> dict[str, Any]:
    result = repo.doit("report", "--json", *arguments)
    assert (result.code, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    """The catalog, as the command sees it."""
    monkeypatch.setattr(Globals, "dep_manager", SimpleNamespace(backend=LockBackend("models.lock", None)))
    begin(Call(only_looks=True))
    try:
        found = loaded("models.yaml")
    finally:
        begin(Call())
    return Ground(sights=found.sights, steps=found.steps, looks=Looks())


def model(name: str, monkeypatch: pytest.MonkeyPatch) -> ModelFacts:
    (facts,) = facts_of_models(ground(monkeypatch), [name])
    return facts


def dataset(name: str, monkeypatch: pytest.MonkeyPatch) -> DatasetFacts:
    (facts,) = facts_of_datasets(ground(monkeypatch), [name], {name: {"sales": "fresh"}}, {})
    return facts


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments], check=True, capture_output=True)


def test_a_site_is_written_with_one_call_for_all_models(built: Repo) -> None:
    built.server.counts.clear()
    result = built.doit("report")
    assert (result.code, result.out, result.err) == (0, "report: build/report/index.html  (2 models, 5 pages written)\n", "")
    assert built.server.counts == Counter({"/api/tags": 1, "/api/version": 1})
    pages = sorted(str(path.relative_to(REPORT)) for path in REPORT.rglob("*.html"))
    assert pages == ["datasets/shared.html", "datasets/tone.html", "index.html", "models/legal.html", "models/sales.html"]
    assert built.trainings == ["legal", "sales"]  # of the build


def test_only_what_changed_is_written_again(built: Repo) -> None:
    assert len([path for path in report(built)["written"] if path.endswith(".html")]) == 5
    assert report(built)["written"] == []
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write(jsonl({"instruction": "Be kind:", "input": "no 9", "output": "Gladly not 9."}))
    found = report(built)
    assert found["stale"] == 1
    assert set(found["written"]) == {
        "index.html",
        "models/sales.html",
        "datasets/tone.html",
        "datasets/shared.html",
    }  # shared says that sales is stale
    assert report(built)["written"] == []


def test_a_model_that_was_built_anew_has_its_page_written_again(built: Repo) -> None:
    report(built)
    built.replace("temperature: 0.2", "temperature: 0.3")
    report(built)
    built.doit()
    assert set(report(built)["written"]) == {"index.html", "models/sales.html", "datasets/shared.html", "datasets/tone.html"}
    assert report(built)["written"] == []


def test_what_is_damaged_is_repaired_and_what_left_the_catalog_goes(built: Repo) -> None:
    report(built)
    page = REPORT / "models/legal.html"
    whole = page.read_bytes()
    page.write_bytes(b"<p>mine</p>")
    (REPORT / "datasets/tone.html").unlink()
    next((REPORT / "assets").rglob("*.css")).unlink()
    assert len([path for path in report(built)["written"] if path.endswith(".html")]) == 2
    assert page.read_bytes() == whole
    assert list((REPORT / "assets").rglob("*.css"))
    (REPORT / "models/.legal.html.partial").write_bytes(b"<p>")  # of a report that was killed
    built.replace("  sales:\n    base: tiny\n    data: [shared, tone]\n    serve: {parameters: {temperature: 0.2}}\n", "")
    built.replace("  tone: {files: [datasets/tone.jsonl]}\n", "")
    found = report(built)
    assert found["removed"] == ["models/sales.html", "datasets/tone.html"]
    assert sorted(os.listdir(REPORT / "models")) == ["legal.html"]


def test_all_is_written_again_where_the_folder_is_gone(built: Repo) -> None:
    report(built)
    shutil.rmtree(REPORT)
    assert len([path for path in report(built)["written"] if path.endswith(".html")]) == 5
    Path(".ollamake/report.msgpack").write_bytes(b"\x81no")
    found = report(built)
    assert len([path for path in found["written"] if path.endswith(".html")]) == 5


def test_another_commit_alone_changes_no_page_of_a_model(built: Repo) -> None:
    git("init", "-q")
    Path(".gitignore").write_text("build/\n.ollamake/\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "first")
    report(built)
    Path("notes.txt").write_text("x", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "notes")
    assert report(built)["written"] == ["index.html"]


def test_nothing_is_built_yet(repo: Repo) -> None:
    found = report(repo)
    assert (found["models"], found["stale"], len([path for path in found["written"] if path.endswith(".html")])) == (2, 2, 5)
    assert repo.trainings == []
    assert not Path("models.lock").exists()


def test_no_server_answers(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    assert report(built)["models"] == 2
    facts = model("legal", monkeypatch)
    assert [host.there for host in facts.row.hosts] == ["no answer"]
    assert facts.modelfile is not None


def test_damaged_receipts_and_reports_are_no_traceback(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (*Path("build").rglob("*.json"), *Path("adapters").rglob("receipt.json"), *Path(".ollamake").rglob("reports/**/*.json")):
        path.write_text('{"record": 7, "outcome": []', encoding="utf-8")
    for path in Path(".ollamake").rglob("history/*.jsonl"):
        path.write_text("[]\n{\n", encoding="utf-8")
    for path in Path(".ollamake/curves").rglob("*.json"):
        path.write_text('{"steps": [1], "loss": "x"}', encoding="utf-8")
    Path("build/legal/events.jsonl").write_text('{"event": "step", "step": "x"}\n[]\n\xff', encoding="latin-1")
    assert report(built)["models"] == 2
    assert model("legal", monkeypatch).curves == ()


def test_a_base_and_a_dataset_that_are_not_there(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("base.gguf").unlink()
    built.records("tone").unlink()
    assert report(built)["models"] == 2
    facts = dataset("tone", monkeypatch)
    assert (facts.row.state, facts.lengths, facts.samples) == ("failed", (), ())


def test_a_faulty_catalog_is_told_as_elsewhere(built: Repo) -> None:
    built.replace("data: [shared]\n", "data: [shred]\n")
    result = built.doit("report")
    assert result.code == 3
    assert "unknown dataset 'shred'" in result.err + result.out


def test_words_behind_it_are_refused(built: Repo) -> None:
    result = built.doit("report", "legal")
    assert result.code == 3
    assert "usage: doit report" in result.err + result.out


def test_a_folder_that_can_t_be_written_is_an_error_with_a_way_out(built: Repo) -> None:
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_bytes(b"a file")
    result = built.doit("report")
    assert result.code == 3
    assert "build/report" in result.err + result.out
    assert "fix:" in result.err + result.out


def test_the_row_says_what_status_says(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    row = model("sales", monkeypatch).row
    (status,) = json.loads(built.doit("status", "sales", "--json").out)["models"]
    (host,) = row.hosts
    assert (row.state, row.trained, row.digest) == (status["stage"], status["adapter"], status["digest"])
    assert (host.there, host.tests, host.host) == (status["is_there"], status["tests"], status["host"])
    assert (row.data, row.base, row.tags) == (("shared", "tone"), "tiny", ())
    assert row.adapter_bytes == sum(path.stat().st_size for path in Path("adapters/sales").glob("adapter_*"))
    assert row.served_bytes is not None


def test_lineage_names_what_is_stale_and_why(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.replace("Gladly not 1.", "Gladly 1.", "datasets/tone.jsonl")
    facts = model("sales", monkeypatch)
    nodes = {node.id: node for node in facts.nodes}
    assert list(nodes) == ["base", "dataset-shared", "dataset-tone", "text", "adapter", "served", "model-1"]
    assert nodes["dataset-shared"].reasons == nodes["base"].reasons == ()
    assert nodes["dataset-tone"].reasons == ("datasets/tone.jsonl: 1 record changed (line 2: output)",)
    assert nodes["adapter"].reasons == ("convert:sales will run",)
    assert nodes["dataset-tone"].page == "datasets/tone.html"
    assert {("dataset-tone", "text"), ("text", "adapter"), ("base", "served"), ("served", "model-1")} <= set(facts.edges)
    assert [step for step, _ in facts.reasons][:2] == ["validate:tone", "convert:sales"]
    shared, tone = dict(nodes["dataset-shared"].facts), dict(nodes["dataset-tone"].facts)
    assert {"records", "size", "digest"} <= set(shared)
    assert {"records of the last build", "size now", "digest of the last build"} <= set(tone)
    assert not {"records", "size", "digest"} & set(tone)
    assert dict(nodes["model-1"].facts)["digest"] == short("sha256:" + built.server.digest("sales:latest"))


def test_reasons_and_values_are_said_in_the_words_of_doit_why(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.replace("Gladly not 1.", "Gladly 1.", "datasets/tone.jsonl")
    facts = model("sales", monkeypatch)
    why = built.doit("why", "sales").out
    for step, reason in facts.reasons:
        assert f"    next  {reason}\n" in why, step
    assert [reason.startswith("perhaps: ") for _, reason in facts.reasons] == [False, False, False, True, True, True]
    assert facts.will_fail == ()
    rate = next(value for value in facts.recipe if value.key == "train.learning_rate")
    assert rate.value == "2e-4"
    assert "learning_rate 2e-4," in dict({node.id: node for node in facts.nodes}["adapter"].facts)["recipe"]


def test_a_build_that_will_fail_is_not_said_to_bring_a_model_up_to_date(built: Repo) -> None:
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write(jsonl({"instruction": "Be kind:", "ouput": "Gladly."}))
    report(built)
    page = (REPORT / "models/sales.html").read_text(encoding="utf-8")
    assert "<p>A build fails at <code>validate:tone</code>: mend that first.</p>" in page
    assert "brings it up to date" not in page


def test_a_model_that_one_of_two_servers_has_not_is_not_fresh(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.replace("version: 1\n", f"version: 1\nollama: {{host: ['{os.environ['OLLAMA_HOST']}', 'http://127.0.0.1:9']}}\n")
    assert report(built)["stale"] == 2
    row = model("sales", monkeypatch).row
    assert row.state == "register"
    assert [host.there for host in row.hosts] == ["latest", "no answer"]
    assert built.doit("status").code == 4


def test_a_given_adapter_has_no_curve_and_that_is_said(built: Repo) -> None:
    shutil.copytree("adapters/legal", "given")
    built.replace("models:\n", "models:\n  given: {base: tiny, adapter: given}\n")
    report(built)
    assert "Its adapter was given, not trained here" in (REPORT / "models/given.html").read_text(encoding="utf-8")


def test_a_version_that_is_on_the_server_no_more_is_gone(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for temperature in ("0.3", "0.4"):
        built.replace(f"temperature: {float(temperature) - 0.1:.1f}", f"temperature: {temperature}")
        built.doit()
    assert [one.now for one in model("sales", monkeypatch).history] == [("latest",), ("previous",), ("gone",)]
    assert "  gone  " in built.doit("history", "sales").out


def test_tests_stand_beside_those_of_the_version_before(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    built.doit()
    facts = model("legal", monkeypatch)
    (tests,) = facts.tests
    effect = next(one for one in tests.results if one.kind == "effect")
    assert tests.summary == "2 tests passed"
    assert effect.answer_of_base is not None
    assert effect.answer_of_previous is not None
    new, old = facts.history
    assert (new.replaced, new.now, old.now) == (old.digest, ("latest",), ("previous",))
    assert new.changed == ("shared: 5 records, as many as before, and not the same",)
    assert old.changed == ("shared: 5 records",)


def test_a_candidate_that_failed_stands_beside_what_is_used(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.replace("    data: [shared]\n", '    data: [shared]\n    tests: [{ask: "Question 1?", expect: {contains: "Answer"}}]\n')
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert built.doit("build", "legal").code == 1
    candidate, used = model("legal", monkeypatch).tests
    assert candidate.host.endswith("(candidate failed its tests)")
    assert report(built)["models"] == 2
    assert '<option value="candidate failed its tests">' in (REPORT / "index.html").read_text(encoding="utf-8")
    assert [one.name for one in candidate.results if not one.passed] == ["Question 1?"]
    assert used.summary == "2 tests passed"


def test_the_recipe_says_where_each_value_comes_from(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {value.key: value for value in model("sales", monkeypatch).recipe}
    assert (recipe["train.rank"].value, recipe["train.epochs"].at) == ("2", None)
    line = next(number for number, text in enumerate(Path("models.yaml").read_text(encoding="utf-8").splitlines(), 1) if "temperature" in text)
    assert recipe["serve.parameters.temperature"].at == f"models.yaml:{line}"


def test_the_modelfile_is_that_of_what_is_made(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    found = model("sales", monkeypatch).modelfile
    assert found == "FROM base.gguf\nADAPTER build/sales/adapter.gguf\nPARAMETER temperature 0.2\n"


def test_values_of_the_environment_are_nowhere(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK", "the-hidden-word")
    built.replace("version: 1\n", "version: 1\nenv: [DESK]\n")
    built.replace("serve: {parameters: {temperature: 0.2}}", 'serve: {system: "You are ${DESK}.", parameters: {temperature: 0.2}}')
    built.doit()
    report(built)
    assert not [path for path in (*REPORT.rglob("*"), Path(".ollamake/report.msgpack")) if path.is_file() and b"the-hidden-word" in path.read_bytes()]
    assert "${DESK}" in str(model("sales", monkeypatch).modelfile)


def test_paths_and_servers_may_be_of_the_environment(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "datasets")
    monkeypatch.setenv("BOX", built.server.host)
    built.replace("version: 1\n", 'version: 1\nenv: [DATA, BOX]\nollama: {host: "${BOX}"}\n')
    built.replace("[datasets/tone.jsonl]", '["${DATA}/tone.jsonl"]')
    built.replace("base.gguf}", 'base.gguf, hf: "${DATA}/hf"}')
    assert {"models/sales.html", "datasets/tone.html"} <= set(report(built)["written"])
    assert report(built)["written"] == []
    time.sleep(0.2)  # until the catalog is old enough to be known by its times
    for _ in range(2):
        with built.records("tone").open("a", encoding="utf-8") as file:
            file.write(jsonl({"instruction": "Be kind:", "output": "Gladly."}))
        report(built)
        assert built.server.host not in "".join(page.read_text(encoding="utf-8") for page in REPORT.rglob("*.html"))
    monkeypatch.setenv("DATA", str(Path("datasets").absolute()))
    assert report(built)["models"] == 2


def test_no_path_of_this_machine_is_on_a_page(built: Repo) -> None:
    report(built)
    here = str(Path.cwd()).encode()
    assert not [path for path in REPORT.rglob("*.html") if here in path.read_bytes()]


def test_a_dataset_s_page_masks_secrets_and_cuts_what_is_long(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write(jsonl({"instruction": f"My token is {SECRET}", "output": "x" * 200_000}))
    facts = dataset("tone", monkeypatch)
    assert facts.row.state == "failed"
    assert [said.rule for said in facts.said if said.is_error] == ["secrets"]
    last = facts.samples[-1]
    assert dict(last.parts)["instruction"] == "My token is ghp_..."
    assert last.cut > 190_000
    report(built)
    assert not [path for path in REPORT.rglob("*.html") if SECRET.encode() in path.read_bytes()]


def test_a_dataset_s_page_counts(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = built.records("tone").read_text(encoding="utf-8").splitlines()
    built.records("tone").write_text("\n".join([*lines, lines[0]]) + "\n", encoding="utf-8")
    facts = dataset("tone", monkeypatch)
    assert (facts.row.state, facts.row.records, facts.duplicates, facts.row.warnings) == ("stale", 4, 1, 1)
    assert [(said.rule, said.at) for said in facts.said] == [("duplicates", "datasets/tone.jsonl:4")]
    assert facts.readers == (("sales", "fresh"),)
    (lengths,) = facts.lengths
    assert (lengths.base, lengths.limit, sum(lengths.counts), lengths.over, lengths.sampled) == ("tiny", 2048, 4, 0, None)
    assert len(lengths.edges) == len(lengths.counts) + 1
    assert lengths.edges[-1] > lengths.longest
    (file,) = facts.files
    assert (file.path, file.records) == ("datasets/tone.jsonl", 4)


def test_growth_is_told_by_the_commits_of_the_lock(built: Repo) -> None:
    git("init", "-q")
    Path(".gitignore").write_text("build/\n.ollamake/\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "first")
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write(jsonl({"instruction": "Be kind:", "input": "no 9", "output": "Gladly not 9."}))
    git("commit", "-qam", "a record alone")
    built.doit()
    git("commit", "-qam", "built")
    found = growths({"tone": ["datasets/tone.jsonl"], "shared": ["datasets/shared.jsonl"]}, ["models.lock"])
    assert [(point.subject, point.records) for point in found["tone"]] == [("first", 3), ("built", 4)]
    assert [(point.subject, point.records) for point in found["shared"]] == [("first", 5)]
    assert found["tone"][1].bytes == built.records("tone").stat().st_size
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["tone"][0].at)


def test_without_git_nothing_is_said_of_growth(built: Repo) -> None:
    assert growths({"tone": ["datasets/tone.jsonl"]}, ["models.lock"]) == {}


def test_it_says_the_address_where_no_browser_is_known(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    result = built.doit("report", "--open")
    assert result.code == 0
    assert f"open {Path('build/report/index.html').absolute().as_uri()}" in result.out


def test_each_server_has_its_place(two: Repo, other: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    assert two.doit("build", "legal").code == 0
    del other.models["legal:latest"]
    facts = model("legal", monkeypatch)
    assert [host.there for host in facts.row.hosts] == ["latest", "missing"]
    assert facts.row.digest == f"sha256:{two.server.digest('legal:latest')}"
    assert len(facts.tests) == len(facts.history) == 2
    assert [node.id for node in facts.nodes][-2:] == ["model-1", "model-2"]
    assert report(two)["models"] == 2


def test_a_report_that_was_cut_off_is_finished_by_the_next(built: Repo) -> None:
    page = REPORT / "models/sales.html"
    report(built)
    before = page.read_bytes()
    built.replace("Gladly not 1.", "Gladly 1.", "datasets/tone.jsonl")
    (REPORT / "index.html").unlink()
    (REPORT / "index.html").mkdir()  # what is written last can't be
    assert built.doit("report").code == 3
    assert page.read_bytes() != before
    (REPORT / "index.html").rmdir()
    assert report(built)["written"] == ["index.html"]
