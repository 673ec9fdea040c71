"""`tests:` in a catalog: what it may say, and each fault, whole, at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogs import faults, load
from ollamake.catalog import Catalog
from ollamake.catalog import tests as of_tests  # its functions are named as pytest names tests
from ollamake.catalog.kept import Kept
from ollamake.catalog.provenance import origins
from ollamake.catalog.tests import Expect, Keeps, Measure, Question, said_tests
from ollamake.errors import BuildError
from ollamake.recipes import held_against_trainers

HEAD = """\
version: 1
bases: {small: {gguf: s.gguf}}
datasets: {tone: {files: [tone.jsonl], holdout: 5%}, law: {files: [law.jsonl]}, own: {files: [own.jsonl]}}
models:
  bot:
    base: small
    data: [tone, own]
    tests:
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tone.jsonl", "law.jsonl", "own.jsonl"):
        Path(name).touch()


def catalog(*tests: str) -> Catalog:
    return load({"models.yaml": HEAD + "".join(f"    - {test}\n" for test in tests)})


def fault(test: str) -> str:
    return faults({"models.yaml": f"{HEAD}    - {test}\n"})


def test_a_question_and_what_is_expected_of_the_answer() -> None:
    (model,) = catalog(
        'ask: "Where is it?"\n      expect: {contains: here, not_contains: [there, gone], ignore_case: true}',
        "name: manners\n      chat: [{role: system, content: Be kind.}, {role: user, content: Hi}]\n"
        "      expect: {equals: Hello., regex: '^H', json_schema: {type: string}}\n      repeat: 3",
    ).models
    first, second = model.tests
    assert first == Question(
        name="Where is it?",
        messages=({"role": "user", "content": "Where is it?"},),
        expect=Expect(contains=("here",), not_contains=("there", "gone"), ignore_case=True),
        mark=first.mark,
    )
    assert (str(first.mark), str(second.mark)) == ("models.yaml:9", "models.yaml:11")
    assert isinstance(second, Question)
    assert (second.name, second.repeat, second.expect.equals, second.expect.json_schema) == ("manners", 3, "Hello.", {"type": "string"})
    assert [message["role"] for message in second.messages] == ["system", "user"]


def test_a_score_over_a_dataset() -> None:
    found = catalog(
        "{dataset: law, metric: token_f1, min: 0.8, limit: 20}",
        "{dataset: tone, metric: loss, max: 2, no_worse_than: previous}",
    )
    first, second = found.models[0].tests
    assert isinstance(first, Measure)
    assert isinstance(second, Measure)
    assert (first.name, first.least, first.most, first.limit, first.only_held_out) == ("token_f1 of law", 0.8, None, 20, False)
    assert (second.name, second.least, second.most, second.no_worse_than, second.only_held_out) == ("loss of tone", None, 2.0, "previous", True)
    assert found.warnings == ()  # law is used
    assert of_tests.tests_files(found.models[0]) == ("law.jsonl", "tone.jsonl")
    assert [dataset.name for dataset in of_tests.tests_datasets(found.models[0])] == ["law", "tone"]


def test_prompts_that_are_answered_as_the_base_does() -> None:
    first, second = catalog("keeps: [Who are you?, What is 1 + 1?]", "{keeps: [Hi], min: 0.5}").models[0].tests
    assert first == Keeps(name="keeps: Who are you?, and 1 more prompt", prompts=("Who are you?", "What is 1 + 1?"), mark=first.mark)
    assert isinstance(second, Keeps)
    assert (second.name, second.least) == ("keeps: Hi", 0.5)


def test_a_test_is_named_by_its_question_and_each_has_a_name_of_its_own() -> None:
    long = "word " * 30
    tests = (
        catalog("{ask: Hi, expect: {contains: a}}", "{ask: Hi, expect: {contains: b}}", f'{{ask: "{long}", expect: {{contains: a}}}}').models[0].tests
    )
    assert [test.name for test in tests] == ["Hi", "Hi (2)", f"{long[:57]}..."]


def test_tests_that_are_said_of_all_models_come_behind_a_models_own() -> None:
    (model,) = load(
        {
            "models.yaml": "version: 1\ninclude: [{files: team/models.yaml, prefix: team-}]\ndatasets: {law: {files: [law.jsonl]}}\n"
            "defaults:\n  tests: [{dataset: law, metric: exact, min: 0.5}, {ask: B, expect: {json_schema: b.json}}]\n",
            "team/models.yaml": "version: 1\nbases: {small: {gguf: s.gguf, defaults: {tests: [{keeps: [D]}]}}}\n"
            "datasets: {law: {files: [../own.jsonl]}}\ndefaults: {tests: [{ask: C, expect: {json_schema: c.json}}]}\n"
            "models:\n  bot: {base: small, data: [law], tests: [{ask: A, expect: {contains: a}}]}\n",
            "b.json": "{}",
            "team/c.json": "{}",
        }
    ).models
    assert [test.name for test in model.tests] == ["A", "keeps: D", "C", "exact of law", "B"]
    # A file's names and paths are its own, whichever model they come to.
    assert of_tests.tests_files(model) == ("team/c.json", "law.jsonl", "b.json")


def test_what_is_kept_of_tests_is_json_without_values_of_the_environment() -> None:
    text = HEAD.replace("version: 1", "version: 1\nenv: [WHO]") + '    - {ask: "Are you ${WHO}?", expect: {contains: "${WHO}"}}\n'
    (model,) = load({"models.yaml": text}, environ={"WHO": "hush-hush"}).models
    said = said_tests(model)
    assert "hush-hush" not in str(said)
    assert model.tests[0].name == "Are you ${WHO}?"
    (other,) = load({"models.yaml": text}, environ={"WHO": "another"}).models
    assert said_tests(other) != said
    assert said_tests(catalog("{dataset: law, metric: exact, min: 1}", "{keeps: [a]}").models[0]) == [
        {"name": "exact of law", "dataset": "law", "files": ["law.jsonl"], "metric": "exact", "min": 1.0},
        {"name": "keeps: a", "keeps": ["a"]},
    ]


def test_why_names_the_tests_and_where_they_stand() -> None:
    found = catalog("{ask: A, expect: {contains: a}}")
    (origin,) = [origin for origin in origins(found, found.models[0]) if origin.key == "tests"]
    assert (origin.value, str(origin.mark)) == (["A"], "models.yaml:8")


def test_what_was_read_before_says_the_same() -> None:
    kept = Kept()
    text = HEAD + "    - {ask: A, expect: {json_schema: {type: object}}}\n"
    first = load({"models.yaml": text}, kept=kept)
    again = load({"models.yaml": text}, kept=Kept(kept.encoded()))
    assert said_tests(first.models[0]) == said_tests(again.models[0])


def test_a_file_that_holds_no_json_schema_is_found_when_the_catalog_is_loaded() -> None:
    text = HEAD + "    - {ask: A, expect: {json_schema: a.json}}\n"
    kept = Kept()
    load({"models.yaml": text, "a.json": "{}"}, kept=kept)
    again = Kept(kept.encoded())
    load({}, kept=again)
    assert not again.is_new
    for content, wanted in (
        ("{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"type": "objekt"}', "not a JSON Schema: $.type: 'objekt' is not valid under any of the given schemas"),
    ):
        Path("a.json").write_text(content, encoding="utf-8")
        with pytest.raises(BuildError) as caught:
            load({}, kept=Kept(kept.encoded()))
        assert str(caught.value) == f"models.yaml:9: models.bot.tests[0]: a.json: {wanted}\n  fix: mend it, or name another in `json_schema`"


KNOWN_EXPECT = "known: contains, equals, ignore_case, json_schema, not_contains, regex"


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (
            "{expect: {contains: a}}",
            "models.yaml:9: models.bot.tests[0]: neither ask, chat, dataset nor keeps\n  fix: add `ask: QUESTION` and `expect: {contains: TEXT}`",
        ),
        ("{ask: a, dataset: tone}", "models.yaml:9: models.bot.tests[0]: ask beside dataset\n  fix: make two tests of it"),
        ("{ask: a}", "models.yaml:9: models.bot.tests[0]: missing key 'expect'\n  fix: add `expect: {contains: TEXT}`"),
        (
            "{ask: a, expect: {contains: a}, min: 0.5}",
            "models.yaml:9: models.bot.tests[0]: min means nothing beside ask\n  fix: remove it; beside ask may stand: name, expect, repeat",
        ),
        ("{ask: a, expect: {ignore_case: true}}", "models.yaml:9: models.bot.tests[0]: expect: it expects nothing\n  fix: add `contains: TEXT`"),
        (
            "{ask: a, expect: {contain: a}}",
            f"models.yaml:9: models.bot.tests[0].expect: unknown key 'contain'\n  fix: write 'contains' ({KNOWN_EXPECT})",
        ),
        (
            "ask: a\n      expect:\n        regex: 'a('",
            "models.yaml:11: models.bot.tests[0]: expect.regex: 'a(' is no regular expression: missing ), unterminated subpattern at position 1\n"
            "  fix: mend it; it is read as Python's `re` does",
        ),
        (
            "ask: a\n      expect:\n        json_schema: none.json",
            "models.yaml:11: models.bot.tests[0]: no such file: none.json\n  fix: put the JSON Schema there, or mend `json_schema`",
        ),
        (
            "{ask: a, expect: {json_schema: {type: objekt}}}",
            "models.yaml:9: models.bot.tests[0].expect.json_schema: no JSON Schema: 'objekt' is not valid under any of the given schemas\n"
            "  fix: see https://json-schema.org/understanding-json-schema",
        ),
        (
            "{chat: [{role: user, content: a}, {role: assistant, content: b}], expect: {contains: a}}",
            "models.yaml:9: models.bot.tests[0]: chat: it ends with a turn of the assistant's, and a question is to be answered\n"
            "  fix: end it with one of the user's",
        ),
        (
            "{chat: [{role: user, content: a}, {role: system, content: b}, {role: user, content: c}], expect: {contains: a}}",
            "models.yaml:9: models.bot.tests[0]: chat: a system prompt that is not the first turn\n  fix: put it first",
        ),
        (
            "{chat: [{role: bot, content: a}], expect: {contains: a}}",
            'models.yaml:9: models.bot.tests[0].chat[0].role: "bot" is not known\n  fix: known: assistant, system, user',
        ),
        (
            "{dataset: tone}",
            "models.yaml:9: models.bot.tests[0]: missing key 'metric'\n  fix: add `metric:`, one of exact, contains, token_f1, loss",
        ),
        (
            "{dataset: law, metric: exact}",
            "models.yaml:9: models.bot.tests[0]: nothing says which score is enough\n  fix: add `min: 0.8`, or `no_worse_than: base`",
        ),
        (
            "{dataset: law, metric: loss, limit: 3}",
            "models.yaml:9: models.bot.tests[0]: nothing says which score is enough\n  fix: add `max: 2.0`, or `no_worse_than: base`",
        ),
        (
            "{dataset: law, metric: loss, min: 1}",
            "models.yaml:9: models.bot.tests[0]: min: less of loss is better\n  fix: write `max: 1`",
        ),
        (
            "{dataset: law, metric: exact, max: 1}",
            "models.yaml:9: models.bot.tests[0]: max: more of exact is better\n  fix: write `min: 1`",
        ),
        (
            "{dataset: lwa, metric: exact, min: 1}",
            "models.yaml:9: model 'bot': tests[0]: unknown dataset 'lwa'\n  fix: write 'law' (known: law, own, tone)",
        ),
        (
            "{dataset: own, metric: exact, min: 1}",
            "models.yaml:9: model 'bot': tests[0]: the model is trained on every record of 'own', so they say nothing of what it has learnt\n"
            "  fix: write `holdout: 5%` into dataset 'own', or ask about another",
        ),
        (
            "{name: a, keeps: [b]}\n    - {name: a, keeps: [c]}",
            "models.yaml:10: model 'bot': two tests are named 'a'; the other is at models.yaml:9\n  fix: give one of them another name",
        ),
        ("{keeps: [a], min: 2}", "models.yaml:9: models.bot.tests[0].min: 2 is above 1\n  fix: for 2 percent, write 0.02"),
        ("{dataset: law, metric: exact, min: 80}", "models.yaml:9: models.bot.tests[0].min: 80 is above 1\n  fix: for 80 percent, write 0.8"),
        (
            "{dataset: law, metric: exact, min: 50%}",
            'models.yaml:9: models.bot.tests[0].min: "50%" is not a number\n  fix: for 50 percent, write 0.5',
        ),
        ("{dataset: law, metric: exact, min: 800}", "models.yaml:9: models.bot.tests[0].min: 800 is above 1"),
        ("{dataset: law, metric: exact, min: high}", 'models.yaml:9: models.bot.tests[0].min: "high" is not a number'),
        (
            "{ask: a, expect: {contains: [a, b], not_contains: b}}",
            "models.yaml:9: models.bot.tests[0]: expect: 'b' is in contains and in not_contains\n  fix: remove it from one of the two",
        ),
        (
            "{ask: a, expect: {equals: 'Yes', contains: 'no'}}",
            "models.yaml:9: models.bot.tests[0]: expect: what it equals does not contain 'no'\n  fix: remove one of the two",
        ),
        (
            "{chat: [{role: user, content: a}, {role: user, content: b}], expect: {contains: a}}",
            "models.yaml:9: models.bot.tests[0]: chat: two turns of the user's in a row\n  fix: make one of them, or write the answer between them",
        ),
        (
            "{name: the adapter has an effect, keeps: [a]}",
            "models.yaml:9: models.bot.tests[0]: name: every model has a test 'the adapter has an effect' already\n  fix: give it another name",
        ),
        ("{ask: a, expect: {contains: a}, repeat: 0}", "models.yaml:9: models.bot.tests[0].repeat: 0 is below 1"),
        ("{ask: a, expect: {contains: []}}", "models.yaml:9: models.bot.tests[0].expect.contains: it is empty"),
    ],
)
def test_a_fault_of_a_test(test: str, wanted: str) -> None:
    assert fault(test) == wanted


def test_a_fault_of_a_default_is_told_once_for_all_models() -> None:
    models = "models:\n  a: {base: small, data: [law]}\n  b: {base: small, data: [law]}\n"
    text = "version: 1\nbases: {small: {gguf: s.gguf}}\ndatasets: {law: {files: [law.jsonl]}}\ndefaults:\n  tests:\n  - {ask: a}\n"
    assert faults({"models.yaml": text + models}) == ("models.yaml:6: defaults.tests[0]: missing key 'expect'\n  fix: add `expect: {contains: TEXT}`")


def test_a_name_never_comes_from_the_environment() -> None:
    head = HEAD.replace("version: 1", "version: 1\nenv: [WHO]")
    assert faults({"models.yaml": head + "    - {name: '${WHO}', keeps: [a]}\n"}, environ={"WHO": "x"}) == (
        "models.yaml:10: '${WHO}': a name can't come from the environment: models.lock would tell it\n  fix: write the name itself"
    )


def test_the_loss_is_not_measured_of_a_gguf_lora_nor_of_whole_weights() -> None:
    text = HEAD.replace("data: [tone, own]", "adapter: a.gguf") + "    - {dataset: law, metric: loss, max: 1}\n"
    assert "models.yaml:9: model 'bot': tests[0]: the loss is measured by the adapter of PEFT, and this model has a GGUF LoRA\n" in faults(
        {"models.yaml": text}
    )
    text = HEAD.replace("data: [tone, own]", "data: [tone]\n    train: {trainer: llama.cpp}") + "    - {dataset: law, metric: loss, max: 1}\n"
    Path("models.yaml").write_text(text, encoding="utf-8")
    from ollamake.catalog.load import load_catalog

    with pytest.raises(BuildError) as caught:
        held_against_trainers(load_catalog(Path("models.yaml"), trainers=("llama.cpp",)))
    assert "models.yaml:9: model 'bot': tests: the loss is measured by the adapter of PEFT, and trainer 'llama.cpp' makes a whole model\n" in str(
        caught.value
    )
