"""What answers are held to, and what is told of it: pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamake.catalog.tests import Expect, Measure
from ollamake.catalog.values import Dataset
from ollamake.errors import BuildError, Mark
from ollamake.gate import expectations, metrics
from ollamake.gate.expectations import majority, wrong_with_answer
from ollamake.gate.junit import junit
from ollamake.gate.metrics import contains, exact, token_f1, wrong_with_score
from ollamake.gate.quoted import shown
from ollamake.gate.report import KINDS, Report, Result, difference, report_of
from ollamake.gate.told import summary, told

MARK = Mark("models.yaml", 9)
ANSWER = "Look into your Account Settings.\n"


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        (Expect(contains=("Account", "Settings")), None),
        (Expect(contains=("account", "Settings", "door")), 'it does not contain "account" nor "door"'),
        (Expect(contains=("account settings",), ignore_case=True), None),
        (Expect(not_contains=("door",)), None),
        (Expect(not_contains=("Look", "into", "x")), 'it contains "Look" and "into"'),
        (Expect(not_contains=("look",)), None),
        (Expect(not_contains=("look",), ignore_case=True), 'it contains "look"'),
        (Expect(equals="Look into your Account Settings."), None),
        (Expect(equals=" look into your account settings.", ignore_case=True), None),
        (Expect(equals="Look"), 'it is not "Look"'),
        (Expect(regex=r"^Look.*\.$"), None),
        (Expect(regex="^look"), 'nothing in it matches "^look"'),
        (Expect(regex="^look", ignore_case=True), None),
        (Expect(contains=("x",), equals="y"), 'it does not contain "x"; it is not "y"'),
        (Expect(regex="[[a]"), 'nothing in it matches "[[a]"'),  # of which Python warns
    ],
)
def test_an_answer_is_held_to_all_that_is_expected(expect: Expect, wrong: str | None) -> None:
    assert wrong_with_answer(ANSWER, expect) == wrong


@pytest.mark.parametrize(
    ("answer", "schema", "wrong"),
    [
        (' {"a": 1}\n', {"type": "object"}, None),
        ('{"a": 1}', {"properties": {"a": {"type": "string"}}}, "it breaks the JSON Schema: $.a: 1 is not a text"),
        ("{}", {"required": ["a", "b"]}, "it breaks the JSON Schema: $: missing key 'a', and 1 more"),
        ("Here: {}", {}, "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("```json\n{}\n```", {}, "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("", {}, "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("1", {"$schema": "http://json-schema.org/draft-07/schema#", "const": 2}, "it breaks the JSON Schema: $: 1 is not one of those allowed"),
        ("0", False, "it breaks the JSON Schema: $: 0 is not allowed: the schema is `false`"),
    ],
)
def test_an_answer_may_have_to_be_json(answer: str, schema: Any, wrong: str | None) -> None:
    assert wrong_with_answer(answer, Expect(json_schema="s.json"), schema) == wrong


def test_a_schema_that_refers_to_nothing_is_an_error_and_no_verdict() -> None:
    with pytest.raises(BuildError, match="the test's JSON Schema refers to '/none', which is not in it"):
        wrong_with_answer("1", Expect(json_schema={}), {"$ref": "#/none"})


def test_what_is_expected_is_said_in_a_line() -> None:
    expect = Expect(contains=("a", "b"), equals="c\nd", json_schema={"type": "object"}, ignore_case=True)
    assert expectations.wanted(expect) == r'contains "a" and "b"; equals "c\nd"; JSON by "{\"type\": \"object\"}", in whichever case'
    assert expectations.wanted(Expect(json_schema="s.json", not_contains=("x",))) == 'not_contains "x"; JSON by s.json'


def test_more_than_half_is_a_majority() -> None:
    assert [majority([True] * right + [False] * wrong) for right, wrong in ((1, 0), (0, 1), (1, 1), (2, 1), (2, 2), (3, 2))] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("metric", "answer", "wanted", "score"),
    [
        (exact, " Paris.\n", "Paris.", 1.0),
        (exact, "paris.", "Paris.", 0.0),
        (contains, "It is Paris.", " Paris\n", 1.0),
        (contains, "It is paris.", "Paris", 0.0),
        (token_f1, "Paris", "paris", 1.0),
        (token_f1, "Paris is it", "it is Paris", 1.0),
        (token_f1, "Paris", "the city of Paris", 0.4),
        (token_f1, "a a", "a", 2 / 3),
        (token_f1, "", "a", 0.0),
        (token_f1, "", " ", 1.0),
        (token_f1, "東京", "東京", 1.0),
    ],
)
def test_a_score(metric: Any, answer: str, wanted: str, score: float) -> None:
    assert metric(answer, wanted) == pytest.approx(score)


@given(st.text(), st.text())
def test_a_score_is_a_share_and_the_same_text_has_all_of_it(answer: str, wanted: str) -> None:
    for metric in metrics.SCORES.values():
        assert 0 <= metric(answer, wanted) <= 1
        assert metric(answer, answer) == 1
    assert token_f1(answer, wanted) == token_f1(wanted, answer)


def measure(**values: Any) -> Measure:
    return Measure(**{"name": "m", "dataset": Dataset(name="tone", files=(), mark=MARK), "metric": "exact", "mark": MARK, **values})


@pytest.mark.parametrize(
    ("of", "score", "others", "wrong"),
    [
        (measure(least=0.8), 0.8, {}, None),
        (measure(least=0.3), 0.1 + 0.2 - 1e-9, {}, None),
        (measure(least=0.8), 0.75, {}, "0.7500, less than min, 0.8"),
        (measure(metric="loss", most=2.0), 1.5, {}, None),
        (measure(metric="loss", most=2.0), 2.5, {}, "2.5000, more than max, 2"),
        (measure(metric="loss", most=2.0), float("nan"), {}, "the loss is no number: nan"),
        (measure(metric="loss", no_worse_than="base"), 1.5, {"base": 1.5}, None),
        (measure(metric="loss", no_worse_than="base"), 1.6, {"base": 1.5}, "1.6000, worse than that of the base, 1.5000"),
        (measure(no_worse_than="previous"), 0.5, {"previous": 0.6}, "0.5000, worse than that of the model before, 0.6000"),
        (measure(no_worse_than="previous"), 0.5, {"base": 0.9}, None),
        (measure(no_worse_than="previous"), 0.5, {"previous": None}, None),
        (measure(least=0.1, no_worse_than="base"), 0.5, {"base": 0.6}, "0.5000, worse than that of the base, 0.6000"),
    ],
)
def test_a_score_is_held_to_a_number_and_to_others(of: Measure, score: float, others: dict[str, float | None], wrong: str | None) -> None:
    assert wrong_with_score(of, score, others) == wrong


def test_what_is_wanted_of_a_score_is_said_in_a_line() -> None:
    assert metrics.wanted(measure(least=0.8, no_worse_than="previous")) == "exact at least 0.8, no worse than previous"
    assert metrics.wanted(measure(metric="loss", most=2)) == "loss at most 2"


def result(name: str, *, passed: bool = True, **values: Any) -> Result:
    return Result(**{"name": name, "kind": "question", "passed": passed, "wanted": "contains a", **values})


def report(*results: Result) -> Report:
    return Report(model="bot", digest="sha256:1", results=results)


def test_a_report_is_told_with_what_newly_fails_first() -> None:
    before = report(result("a"), result("b", passed=False), result("c", passed=False), result("d"))
    now = report(
        result("a", passed=False, question="Where?", answer="There.\n", why='it does not contain "here"', at="models.yaml:9"),
        result("b", passed=False, why="still", fix="do this"),
        result("c"),
        result("d", passed=False, wanted="contains b", why="another test than it was"),
        result("e", warning=True, why="look at it"),
    )
    assert told(now, before) == (
        "bot: 3 of 5 tests failed\n"
        "  models.yaml:9: newly fails: a\n"
        '    asked: "Where?"\n'
        '    answered: "There.\\n"\n'
        '    it does not contain "here"\n'
        "  fails, and was not asked before: d\n"
        "    another test than it was\n"
        "  still fails: b\n"
        "    still\n"
        "    fix: do this\n"
        "  newly passes: c\n"
        "  warning: e: look at it"
    )
    new = difference(now, before)
    names = [[one.name for one in part] for part in (new.newly_failing, new.still_failing, new.first_failing, new.newly_passing)]
    assert names == [["a"], ["b"], ["d"], ["c"]]


def test_a_first_report_has_no_other_to_be_held_against() -> None:
    assert told(report(result("a", passed=False, why="no"))) == "bot: 1 of 1 test failed\n  fails: a\n    no"
    assert told(report(result("a"))) == "bot: 1 test passed"
    assert summary(report()) == "0 tests passed"


TEXT = st.text(st.characters(codec=None))  # half surrogate pairs and control characters as well
RESULTS = st.builds(
    Result,
    name=TEXT,
    kind=st.sampled_from(KINDS),
    passed=st.booleans(),
    question=TEXT,
    answer=TEXT,
    wanted=TEXT,
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    of=st.none() | TEXT.filter(bool),
    why=TEXT,
    fix=st.none() | TEXT.filter(bool),
    warning=st.booleans(),
    seconds=st.floats(0, 1e6),
    at=st.none() | TEXT.filter(bool),
)
REPORTS = st.builds(Report, model=TEXT, digest=TEXT, results=st.lists(RESULTS, max_size=3).map(tuple))


@given(REPORTS)
def test_a_report_comes_back_from_json_as_it_was(found: Report) -> None:
    assert report_of(json.loads(json.dumps(found.as_json()))) == found


@given(st.lists(REPORTS, max_size=2))
def test_any_report_is_well_formed_xml(found: list[Report]) -> None:
    root = ET.fromstring(junit(found).encode())
    assert len(root.findall("testsuite/testcase")) == sum(len(one.results) for one in found)
    assert len(root.findall("testsuite/testcase/failure")) == sum(len(one.failures) for one in found)


@given(REPORTS, st.none() | REPORTS)
def test_any_report_can_be_told_and_each_failure_once(now: Report, before: Report | None) -> None:
    assert told(now, before).isprintable() is not None
    new = difference(now, before)
    assert sorted(map(id, (*new.newly_failing, *new.still_failing, *new.first_failing))) == sorted(map(id, now.failures))


@given(TEXT)
def test_a_quoted_text_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        1,
        "x",
        {"format": 2},
        {"format": 1, "model": "a", "digest": "b", "results": [{"name": "a", "kind": "question", "passed": "yes"}]},
    ],
)
def test_what_is_no_report_is_none(value: Any) -> None:
    assert report_of(value) is None


def test_a_score_that_is_no_number_is_left_out_of_json() -> None:
    assert "score" not in result("a", score=float("nan")).as_json()
    assert result("a", score=0.0).as_json()["score"] == 0.0


def test_junit_is_as_jenkins_and_gitlab_read_it() -> None:
    first = result("Where?", passed=False, seconds=0.25, question="Where?", answer="\x07<There>", why="no\x00", at="models.yaml:9")
    text = junit([report(first, replace(first, name="ok", passed=True, why="", score=0.5)), report()])
    assert text == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="ollamake" tests="2" failures="1" errors="0" time="0.500">\n'
        '  <testsuite name="bot" skipped="0" tests="2" failures="1" errors="0" time="0.500">\n'
        "    <properties>\n"
        '      <property name="digest" value="sha256:1" />\n'
        "    </properties>\n"
        '    <testcase classname="bot.question" name="Where?" time="0.250" file="models.yaml" line="9">\n'
        '      <failure message="no\\x00" type="question">no\\x00\nasked: Where?\nanswered: \\x07&lt;There&gt;\nwanted: contains a</failure>\n'
        "    </testcase>\n"
        '    <testcase classname="bot.question" name="ok" time="0.250" file="models.yaml" line="9">\n'
        "      <system-out>asked: Where?\nanswered: \\x07&lt;There&gt;\nwanted: contains a\nscore: 0.5</system-out>\n"
        "    </testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="bot" skipped="0" tests="0" failures="0" errors="0" time="0.000">\n'
        "    <properties>\n"
        '      <property name="digest" value="sha256:1" />\n'
        "    </properties>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )
