"""A model on a server is asked what its catalog says, and what every model is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Repo, jsonl
from fake_ollama import Refusal
from ollamake.catalog import Model
from ollamake.catalog.load import load_catalog
from ollamake.errors import BuildError
from ollamake.gate.report import Report, Result
from ollamake.ollama.address import address_of
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.stages.asking import base_on
from ollamake.stages.examine import examine
from ollamake.state.digests import file_digest

ALWAYS = ["the adapter has an effect", "training text and served template agree"]
DATASETS = "  law: {files: [datasets/law.jsonl]}\n  long: {files: [datasets/long.jsonl], holdout: 50%}\nmodels:\n"


@pytest.fixture
def server(repo: Repo) -> Iterator[OllamaServer]:
    repo.replace("models:\n", DATASETS)
    repo.replace("data: [shared]", "data: [shared, long]")
    (repo.path / "datasets/law.jsonl").write_text(jsonl(*({"instruction": f"{n} + {n}?", "output": str(n + n)} for n in range(4))), encoding="utf-8")
    (repo.path / "datasets/long.jsonl").write_text(
        jsonl(*({"instruction": f"Who is {n}?", "output": f"Mr {n}."} for n in range(40))), encoding="utf-8"
    )
    with OllamaServer(address_of(repo.server.host)) as found:
        yield found


def legal(repo: Repo, *tests: str, serve: str = "") -> Model:
    """The model, with these tests."""
    text = (repo.path / "models.yaml").read_text(encoding="utf-8")
    said = f"    tests: [{', '.join(tests)}]\n" if tests else ""
    (repo.path / "models.yaml").write_text(text.replace("  legal:\n", f"  legal:\n{said}{serve}"), encoding="utf-8")
    return next(model for model in load_catalog(Path("models.yaml"), trainers=["command"]).models if model.name == "legal")


def examined(server: OllamaServer, model: Model, **more: Any) -> Report:
    """Of a candidate that is there."""
    base = Path(model.base.gguf)
    for name in ("legal:candidate", "legal:latest"):
        server.create(
            NewModel(
                name=name,
                files=((base, file_digest(base)),),
                adapter=None,
                system=model.serve.system,
                template=model.serve.template,
                parameters=model.serve.parameters,
            )
        )
    with base_on(server, model) as base_name:
        return examine(model, "legal:candidate", server, base_name, **more)


def results(report: Report) -> dict[str, Result]:
    return {result.name: result for result in report.results}


def failing(report: Report) -> dict[str, str]:
    return {result.name: result.why for result in report.failures}


def by_model(**answers: Any) -> Any:
    """What is said by tag: a text, or what a question comes to."""

    def says(asked: dict[str, Any]) -> str:
        said = answers[asked["model"].partition(":")[2]]
        return said if isinstance(said, str) else str(said(asked["messages"][-1]["content"]))

    return says


def test_a_model_without_tests_is_asked_what_every_model_is(repo: Repo, server: OllamaServer) -> None:
    report = examined(server, legal(repo))
    assert [(result.name, result.passed, result.warning) for result in report.results] == [(name, True, False) for name in ALWAYS]
    assert report.digest == server.digest("legal:candidate")
    assert results(report)["the adapter has an effect"].why == 'the base answers "I am legal:base"'
    assert "legal:base" not in repo.server.models


def test_what_went_wrong_is_said_and_not_that_the_base_stays(repo: Repo, server: OllamaServer) -> None:
    repo.server.refusals.append(Refusal("/api/delete", 503, "gateway down", method="DELETE", times=2))
    model = legal(repo)
    with pytest.raises(BuildError, match="what went wrong"), base_on(server, model):
        raise BuildError("what went wrong")  # noqa: EM101 - as a test of a model may
    with pytest.raises(BuildError, match=r"can't delete legal:base: .* says: gateway down"), base_on(server, model):
        pass


def test_a_question_is_asked_at_temperature_0_and_only_once(repo: Repo, server: OllamaServer) -> None:
    model = legal(
        repo,
        "{ask: Who?, expect: {contains: legal}}",
        "{name: again, ask: Who?, expect: {contains: base}}",
        "{ask: What?, expect: {equals: I am legal:candidate}}",
    )
    report = examined(server, model)
    assert failing(report) == {"again": 'it does not contain "base"'}
    failed = results(report)["again"]
    assert (failed.question, failed.answer, failed.wanted, failed.at) == ("Who?", "I am legal:candidate", 'contains "base"', "models.yaml:13")
    asked = [one for one in repo.server.asked if one["messages"][-1]["content"] == "Who?"]
    assert [(one["model"], one["options"]) for one in asked] == [("legal:candidate", {"temperature": 0, "num_predict": 512})]


def test_a_chat_is_asked_whole(repo: Repo, server: OllamaServer) -> None:
    chat = "[{role: system, content: s}, {role: user, content: a}, {role: assistant, content: b}, {role: user, content: c}]"
    repo.server.says = lambda asked: str(len(asked["messages"]))
    report = examined(server, legal(repo, f"{{chat: {chat}, expect: {{equals: '4'}}}}"))
    assert results(report)["c"].passed


def test_a_question_that_is_repeated_is_asked_as_served_and_the_majority_counts(repo: Repo, server: OllamaServer) -> None:
    model = legal(repo, "{ask: Who?, expect: {contains: I}, repeat: 3}", serve="    serve: {parameters: {temperature: 0.7, num_predict: 9}}\n")
    repo.server.says = lambda asked: "I" if asked["options"].get("seed") == 1 else "you"
    report = examined(server, model)
    assert failing(report) == {"Who?": '1 of 3 answers are right; it does not contain "I"', ALWAYS[0]: results(report)[ALWAYS[0]].why}
    assert [one["options"] for one in repo.server.asked if one["messages"][-1]["content"] == "Who?" and "seed" in one["options"]] == [
        {"seed": 1},
        {"seed": 2},
        {"seed": 3},
    ]
    repo.server.says = lambda asked: "I" if asked["options"].get("seed") != 1 else "you"
    assert results(examined(server, model))["Who?"].why == '2 of 3 answers are right; it does not contain "I"'


def test_a_dataset_is_asked_and_its_score_is_held_to_a_number(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = by_model(candidate=lambda question: {"0 + 0?": "0", "1 + 1?": "It is 2."}.get(question, "?"), base="!")
    report = examined(server, legal(repo, "{dataset: law, metric: exact, min: 0.25}", "{dataset: law, metric: contains, min: 0.75}"))
    assert results(report)["exact of law"].passed
    assert failing(report) == {"contains of law": '0.5000, less than min, 0.75; 0.5000 over 4 records; the worst answer is to have been "4"'}
    assert results(report)["contains of law"].score == 0.5


def test_of_a_dataset_that_is_trained_on_only_what_is_held_out_is_asked(repo: Repo, server: OllamaServer) -> None:
    model = legal(repo, "{dataset: long, metric: exact, min: 0}", "{name: some, dataset: long, metric: token_f1, min: 0, limit: 5}")
    report = examined(server, model)
    assert repo.doit("convert:legal").code == 0
    held = [json.loads(line)["messages"][0]["content"] for line in Path("build/legal/holdout.jsonl").read_text(encoding="utf-8").splitlines()]
    asked = {one["messages"][-1]["content"] for one in repo.server.asked if one["options"]["num_predict"] == 512}
    assert asked == set(held)
    assert results(report)["some"].why.endswith(" over 5 records")


def test_a_score_may_have_to_be_no_worse_than_the_base(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = by_model(candidate="0", base=lambda question: {"0 + 0?": "0", "1 + 1?": "2"}.get(question, "?"))
    report = examined(server, legal(repo, "{dataset: law, metric: exact, no_worse_than: base}"))
    assert failing(report)["exact of law"].startswith("0.2500, worse than that of the base, 0.5000; 0.2500 over 4 records; base: 0.5000")


def test_a_score_may_have_to_be_no_worse_than_the_model_before(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = by_model(candidate="0", base="x", latest=lambda question: {"0 + 0?": "0", "1 + 1?": "2"}.get(question, "?"))
    model = legal(repo, "{dataset: law, metric: exact, no_worse_than: previous}")
    first = examined(server, model)
    assert results(first)["exact of law"].why == "0.2500 over 4 records; previous: nothing to hold it against"
    worse = examined(server, model, previous="legal:latest")
    assert failing(worse)["exact of law"].startswith("0.2500, worse than that of the model before, 0.5000")
    # What the report of then says of the same records is not asked again.
    repo.server.asked.clear()
    assert failing(examined(server, model, before=first, previous="legal:latest")) == {}
    assert "legal:latest" not in {one["model"] for one in repo.server.asked}
    (repo.path / "datasets/law.jsonl").write_text(jsonl({"instruction": "1 + 1?", "output": "2"}), encoding="utf-8")
    assert failing(examined(server, model, before=first, previous="legal:latest"))["exact of law"].startswith("0.0000, worse than")


def test_prompts_that_are_kept_are_answered_as_the_base_does(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = by_model(
        candidate=lambda q: "Paris." if q == "Capital?" else "I am new now.", base=lambda q: " Paris." if q == "Capital?" else "I am new."
    )
    report = examined(server, legal(repo, "{keeps: [Capital?]}", "{keeps: [Capital?, Who?]}", "{name: near, keeps: [Who?], min: 0.8}"))
    assert failing(report) == {"keeps: Capital?, and 1 more prompt": '1 of 2 are answered otherwise; the base answers "I am new."'}
    assert results(report)["near"].score == pytest.approx(8 / 9)


def test_an_adapter_without_effect_fails_with_what_to_do(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = lambda _: "the same"
    failed = results(examined(server, legal(repo, "{ask: Who?, expect: {contains: same}}")))[ALWAYS[0]]
    assert (failed.passed, failed.why) == (False, "all of 6 answers are those of the base: the model is the base under another name")
    assert failed.fix == "raise `learning_rate` or `epochs`, or give it more records; `doit show` tells what of them is learnt"


def test_the_questions_of_tests_may_show_the_effect(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = by_model(candidate=lambda q: "new" if q == "Who?" else "old", base="old")
    report = examined(server, legal(repo, "{ask: Who?, expect: {contains: new}}"))
    assert results(report)[ALWAYS[0]].passed
    assert results(report)[ALWAYS[0]].question == "Who?"


def test_an_adapter_that_was_there_is_asked_neutral_questions(repo: Repo, server: OllamaServer) -> None:
    repo.server.says = lambda _: "the same"
    repo.replace("    data: [shared, long]\n", "    adapter: given\n")
    failed = results(examined(server, legal(repo)))[ALWAYS[0]]
    assert failed.question == "Hello! Who are you?"
    assert failed.fix == "look whether it is the adapter that is meant, and whether it was trained on this base"


def test_an_answer_that_was_cut_says_so(repo: Repo, server: OllamaServer) -> None:
    class Cut(OllamaServer):
        def answer(self, name: str, *_: Any, **__: Any) -> Iterator[str]:
            yield from (name, "...")

    with Cut(server.address) as cutting:
        report = examined(cutting, legal(repo, "{ask: Who?, expect: {contains: end}}"))
    assert failing(report) == {"Who?": 'it does not contain "end"; it was cut before its end'}
    assert results(report)["Who?"].answer == "legal:candidate"


def test_a_json_schema_is_read_from_its_file(repo: Repo, server: OllamaServer) -> None:
    Path("answer.json").write_text('{"required": ["a"]}', encoding="utf-8")
    repo.server.says = by_model(candidate="{}", base="x")
    model = legal(repo, "{ask: Who?, expect: {json_schema: answer.json}}")
    assert failing(examined(server, model)) == {"Who?": "it breaks the JSON Schema: $: missing key 'a'"}
    Path("answer.json").write_text('{"type": "objekt"}', encoding="utf-8")
    with pytest.raises(
        BuildError, match=r"answer.json: not a JSON Schema: .*\n  fix: mend it, or take `json_schema` out of the test \(models.yaml:13\)"
    ):
        examined(server, model)


def test_a_dataset_without_a_question_is_an_error(repo: Repo, server: OllamaServer) -> None:
    (repo.path / "datasets/law.jsonl").write_text(jsonl({"text": "Once upon a time."}), encoding="utf-8")
    with pytest.raises(BuildError) as caught:
        examined(server, legal(repo, "{dataset: law, metric: exact, min: 1}"))
    assert str(caught.value) == (
        "models.yaml:13: test 'exact of law': dataset 'law' has no record that can be asked\n  fix: ask about a dataset of questions and answers"
    )


def test_how_many_are_asked_is_told(repo: Repo, server: OllamaServer) -> None:
    told: list[tuple[int, int]] = []
    examined(server, legal(repo, "{ask: Who?, expect: {contains: I}}", "{keeps: [Hi]}"), tell=lambda done, of: told.append((done, of)))
    assert told == [(number, 5) for number in range(1, 6)]  # one of the effect, asked of two models; 1; 1, asked of two


def test_a_secret_of_the_environment_is_in_no_report(repo: Repo, server: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hush-hush")
    repo.replace("version: 1", "version: 1\nenv: [TOKEN]")
    report = examined(server, legal(repo, '{ask: "Is it ${TOKEN}?", expect: {contains: "${TOKEN}"}}'))
    assert "hush-hush" in str(repo.server.asked)
    assert "hush-hush" not in json.dumps(report.as_json())


def test_a_question_that_stands_in_the_training_records_is_a_warning_unless_leaks_says_otherwise(repo: Repo, server: OllamaServer) -> None:
    legal(repo, '{ask: " Question 1?", expect: {contains: a}}', "{ask: Question 9?, expect: {contains: a}}", "{dataset: law, metric: exact, min: 1}")
    (repo.path / "datasets/law.jsonl").write_text(jsonl({"instruction": "Question 3?", "output": "Another answer."}), encoding="utf-8")
    told = [line for line in repo.doit("check", "shared").out.splitlines() if "[leaks]" in line]
    assert told == [
        "datasets/shared.jsonl:2: warning: model 'legal' is trained on what test 'Question 1?' (models.yaml:13) asks, word by word [leaks]",
        "datasets/shared.jsonl:4: warning: model 'legal' is trained on what test 'exact of law' (models.yaml:13) asks, word by word [leaks]",
    ]
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], rules: {leaks: error}}")
    failed = repo.doit("check", "shared")
    assert (failed.code, "warning: model 'legal'" in failed.out) == (1, False)
    repo.replace("leaks: error", "leaks: off")
    assert "[leaks]" not in repo.doit("check", "shared").out
