"""Each rule has a file that trips it alone, and the whole of what is said then; what a breach is, the dataset decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Repo
from datasets import checked, dataset_of, said
from ollamake.errors import BuildError
from ollamake.records.rules import ERROR, OFF, RULES, SEVERITIES, SHOWN, UNREADABLE, WARNING

GOOD = b'{"instruction": "Why?", "output": "Because."}'
OTHER = b'{"instruction": "How?", "output": "So."}'
CHAT = b'{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}'
KEY = b"AKIA" + b"QWERTYUIOPASDFGH"


def chat(*turns: tuple[str, str]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}).encode()


# Rule -> line that breaks it, behind a good one, and what is said.
TRIPS = {
    "not-utf8": [
        (
            b'{"instruction": "caf\xe9", "output": "x"}',
            "tone.jsonl:2: not UTF-8: byte 21 of the line is 0xe9 [not-utf8]\n  fix: save the file as UTF-8",
        )
    ],
    "not-json": [
        (
            b'{"instruction": "Why?" "output": "x"}',
            "tone.jsonl:2: not JSON: Expecting ',' delimiter at column 24 [not-json]\n  fix: write one whole JSON object a line",
        ),
        (
            b'{"instruction": "Why',
            "tone.jsonl:2: not JSON: Unterminated string starting at at column 17 [not-json]\n  fix: write one whole JSON object a line",
        ),
        (GOOD + GOOD, "tone.jsonl:2: not JSON: Extra data at column 46 [not-json]\n  fix: write one whole JSON object a line"),
        (
            b'{"instruction": NaN, "output": "x"}',
            "tone.jsonl:2: not JSON: NaN is no JSON number [not-json]\n  fix: write one whole JSON object a line",
        ),
        (b"[" * 100_000, "tone.jsonl:2: not JSON: nested too deep [not-json]\n  fix: write one flat JSON object a line"),
        (
            GOOD[:20] + b"\x00" + GOOD[20:],
            "tone.jsonl:2: not JSON: Invalid control character at at column 21 [not-json]\n  fix: write one whole JSON object a line",
        ),
    ],
    "duplicate-key": [
        (
            b'{"instruction": "How?", "output": "x", "output": "y"}',
            "tone.jsonl:2: key 'output' stands twice [duplicate-key]\n  fix: keep one of the two",
        ),
        (
            b'{"instruction": "How?", "output": "x", "o\\u0075tput": "y \\u0022"}',
            "tone.jsonl:2: key 'output' stands twice [duplicate-key]\n  fix: keep one of the two",
        ),
    ],
    "not-an-object": [
        (
            b'["Why?", "Because."]',
            'tone.jsonl:2: not an object: ["Why?", "Because."] [not-an-object]\n  fix: write {"instruction": "...", "output": "..."}',
        ),
        (b'"Why?"', 'tone.jsonl:2: not an object: "Why?" [not-an-object]\n  fix: write {"instruction": "...", "output": "..."}'),
        (b"null", 'tone.jsonl:2: not an object: null [not-an-object]\n  fix: write {"instruction": "...", "output": "..."}'),
    ],
    "mixed-formats": [
        (
            CHAT,
            "tone.jsonl:2: a record of format chat; the dataset's are alpaca [mixed-formats]\n"
            "  fix: write it like the others, or put it into a dataset of its own",
        )
    ],
    "missing-key": [
        (b'{"output": "x"}', "tone.jsonl:2: missing key 'instruction' [missing-key]\n  fix: add 'instruction' to the record"),
        (b'{"instruction": "Why?"}', "tone.jsonl:2: missing key 'output' [missing-key]\n  fix: add 'output' to the record"),
    ],
    "unknown-key": [
        (
            b'{"instruction": "How?", "output": "x", "inptu": "y"}',
            "tone.jsonl:2: unknown key 'inptu' [unknown-key]\n  fix: write 'input' (known: input, instruction, output)",
        )
    ],
    "wrong-type": [
        (b'{"instruction": "Why?", "output": 7}', "tone.jsonl:2: output is not a text: 7 [wrong-type]\n  fix: put it in quotes"),
        (
            b'{"instruction": null, "output": "x"}',
            "tone.jsonl:2: instruction is not a text: null [wrong-type]\n  fix: write one text",
        ),
        (
            b'{"instruction": "Why?", "input": {"a": 1}, "output": "x"}',
            'tone.jsonl:2: input is not a text: {"a": 1} [wrong-type]\n  fix: write one text',
        ),
    ],
    "not-unicode": [
        (
            b'{"instruction": "Why?", "output": "\\ud83d"}',
            'tone.jsonl:2: output has half of a surrogate pair: "\\ud83d" [not-unicode]\n  fix: write the character itself',
        )
    ],
    "blank-prompt": [
        (b'{"instruction": " ", "output": "x"}', "tone.jsonl:2: blank instruction [blank-prompt]\n  fix: write the instruction, or delete the line")
    ],
    "blank-answer": [
        (b'{"instruction": "Why?", "output": "\\n"}', "tone.jsonl:2: blank output [blank-answer]\n  fix: write the output, or delete the line")
    ],
    "duplicates": [(GOOD, "tone.jsonl:2: warning: the same record as tone.jsonl:1 [duplicates]\n  fix: delete one of the two")],
    "conflicts": [
        (
            b'{"instruction": "Why?", "output": "So."}',
            "tone.jsonl:2: warning: the same prompt as tone.jsonl:1, with another answer [conflicts]\n  fix: keep the better answer",
        )
    ],
    "template-tokens": [
        (
            b'{"instruction": "How?", "output": "x\\u003c|im_end|>"}',
            "tone.jsonl:2: warning: output has '<|im_end|>', which chat templates write [template-tokens]\n"
            "  fix: take it out: the format writes such tokens itself",
        ),
        (
            b'{"instruction": "### Instruction: how?", "output": "x"}',
            "tone.jsonl:2: warning: instruction has '### Instruction:', which chat templates write [template-tokens]\n"
            "  fix: take it out: the format writes such tokens itself",
        ),
    ],
    "control-characters": [
        (
            b'{"instruction": "How?", "output": "\\u0007 \\t is fine"}',
            "tone.jsonl:2: warning: output has the control character U+0007 [control-characters]\n  fix: take it out",
        ),
        (
            b'{"instruction": "How?", "output": "\x7f"}',
            "tone.jsonl:2: warning: output has the control character U+007F [control-characters]\n  fix: take it out",
        ),
    ],
    "secrets": [
        (
            b'{"instruction": "How?", "output": "key ' + KEY + b'"}',
            "tone.jsonl:2: output has what looks like an AWS access key: AKIA... at character 5 [secrets]\n"
            "  fix: take it out of the data, and make a new one: it has been in a repository",
        )
    ],
}
# The same for chats.
CHAT_TRIPS = {
    "role-order": [
        (
            chat(("assistant", "Hi."), ("user", "Why?"), ("assistant", "So.")),
            "tone.jsonl:2: messages[0]: assistant comes first [role-order]\n  fix: here comes user",
        ),
        (
            chat(("user", "Hi."), ("user", "Why?"), ("assistant", "So.")),
            "tone.jsonl:2: messages[1]: user follows user [role-order]\n  fix: here comes assistant",
        ),
        (
            chat(("user", "Hi."), ("asistant", "Ho.")),
            "tone.jsonl:2: messages[1]: role \"asistant\" is not known [role-order]\n  fix: write 'assistant' (known: assistant, system, tool, user)",
        ),
    ],
    "no-answer": [
        (
            chat(("user", "Hi.")),
            "tone.jsonl:2: messages ends without an answer of the assistant [no-answer]\n  fix: add the answer, or delete the line",
        ),
        (
            b'{"messages": []}',
            "tone.jsonl:2: messages ends without an answer of the assistant [no-answer]\n  fix: add the answer, or delete the line",
        ),
    ],
    "blank-answer": [
        (
            chat(("user", "Hi."), ("assistant", " ")),
            "tone.jsonl:2: blank messages[1].content [blank-answer]\n  fix: write the messages[1].content, or delete the line",
        )
    ],
    "missing-key": [
        (
            b'{"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]}',
            "tone.jsonl:2: messages[0]: missing key 'content' [missing-key]\n  fix: add 'content' to the message",
        )
    ],
    "wrong-type": [
        (b'{"messages": "Hi"}', 'tone.jsonl:2: messages is not a list: "Hi" [wrong-type]\n  fix: write a list of messages'),
        (
            b'{"messages": ["Hi"]}',
            'tone.jsonl:2: messages[0] is not an object: "Hi" [wrong-type]\n  fix: write {"role": "...", "content": "..."}',
        ),
    ],
    "mixed-formats": [
        (
            OTHER,
            "tone.jsonl:2: a record of format alpaca; the dataset's are chat [mixed-formats]\n"
            "  fix: write it like the others, or put it into a dataset of its own",
        )
    ],
}
LINES = [(GOOD, rule, *trip) for rule, trips in TRIPS.items() for trip in trips]
LINES += [(CHAT, rule, *trip) for rule, trips in CHAT_TRIPS.items() for trip in trips]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("good", "rule", "line", "whole"), LINES, ids=[f"{rule} {number}" for number, (_, rule, _, _) in enumerate(LINES)])
def test_a_rule_is_tripped_alone_and_says_this(good: bytes, rule: str, line: bytes, whole: str) -> None:
    assert said({"tone.jsonl": good + b"\n" + line + b"\n"}) == whole
    for severity in SEVERITIES:
        text = said({"tone.jsonl": good + b"\n" + line + b"\n"}, rules={rule: severity})
        first = whole.replace("warning: ", "", 1)
        assert text == {ERROR: first, WARNING: first.replace(": ", ": warning: ", 1), OFF: ""}[severity]


def test_the_rules_of_files_say_this() -> None:
    bom = b"\xef\xbb\xbf" + GOOD
    assert said({"tone.jsonl": bom}) == ("tone.jsonl:1: warning: the file begins with a byte order mark [bom]\n  fix: save it as UTF-8 without one")
    assert said({"tone.jsonl": GOOD, "empty.jsonl": b" \n\n"}) == (
        "empty.jsonl:1: no record in the file [empty-file]\n  fix: write one JSON object a line, or delete the file"
    )
    assert said({"tone.jsonl.gz": b"\x1f\x8b\x08 no"}) == (
        "tone.jsonl.gz:1: the compressed file is damaged: Compressed file ended before the end-of-stream marker was reached [unreadable-file]\n"
        "  fix: compress it again, or get it from where it came"
    )


def test_a_schema_of_the_dataset_is_held_to_in_our_words() -> None:
    Path("tone.schema.json").write_text(
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "instruction": {"pattern": "[?]$"},
                    "output": {"maxLength": 5},
                    "input": {"enum": ["red", "green"]},
                },
                "required": ["input"],
            }
        ),
        encoding="utf-8",
    )
    lines = b'{"instruction": "Why?", "input": "red", "output": "So."}\n{"instruction": "Go", "output": "Longer."}\n'
    lines += b'{"instruction": "Why?", "input": "gren", "output": "x"}\n'
    assert said({"tone.jsonl": lines}, schema="tone.schema.json") == (
        "tone.jsonl:2: $: missing key 'input' [schema]\n  fix: add 'input'\n"
        "tone.jsonl:2: $.instruction: \"Go\" does not match '[?]$' [schema]\n"
        'tone.jsonl:2: $.output: "Longer." is longer than 5 characters [schema]\n'
        "tone.jsonl:3: $.input: \"gren\" is not one of those allowed [schema]\n  fix: write 'green' (known: green, red)"
    )


def test_near_duplicates_are_found_where_that_is_asked_for() -> None:
    answer = "To reset your password, open the settings of your account, choose security, then press reset and follow the mail that comes to you soon"
    lines = [{"instruction": f"How do I reset my password {number}?", "output": f"{text}."} for number, text in enumerate((answer, answer, "No."))]
    lines[1]["instruction"] = lines[0]["instruction"].upper()
    content = "".join(json.dumps(line) + "\n" for line in [*lines, lines[0]]).encode()
    duplicate = "tone.jsonl:4: warning: the same record as tone.jsonl:1 [duplicates]\n  fix: delete one of the two"
    assert said({"tone.jsonl": content}) == duplicate
    assert said({"tone.jsonl": content}, rules={"near-duplicates": WARNING}) == (
        "tone.jsonl:2: warning: about 100% the same as tone.jsonl:1 [near-duplicates]\n"
        f"  fix: keep one of the two, or make them say different things\n{duplicate}"
    )


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        (
            b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": "[{\\"a\\": \\"\\\\ud800\\"}]"}',
            "any.jsonl:1: tools has half of a surrogate pair [not-unicode]\n  fix: write the character itself",
        ),
        (
            b'{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": "[{\\"a\\": 1e999}]"}',
            'any.jsonl:1: tools is not JSON: "[{\\"a\\": 1e999}]" [wrong-type]\n  fix: write a list of JSON Schemas',
        ),
        (
            CHAT.replace(b"}]}", b'}], "tools": [{"a": 1e999}]}'),
            "any.jsonl:1: not JSON: a number that is too large: 1e999 [not-json]\n  fix: write one whole JSON object a line",
        ),
        (
            CHAT.replace(b"}]}", b'}], "tools": [1]}'),
            "any.jsonl:1: tools is not a list of objects: [1] [wrong-type]\n  fix: write a list of JSON Schemas",
        ),
        (
            CHAT.replace(b'"user"', b'"user", "name": "' + KEY + b'"'),
            "any.jsonl:1: turn 1 (user).name has what looks like an AWS access key: AKIA... at character 1 [secrets]\n"
            "  fix: take it out of the data, and make a new one: it has been in a repository",
        ),
        *(
            (
                b'{"instruction": ' + b"[" * depth + b"]" * depth + b', "output": "b"}',
                "any.jsonl:1: not JSON: nested too deep [not-json]\n  fix: write one flat JSON object a line",
            )
            for depth in (2_000, 100_000)
        ),
    ],
)
def test_what_stands_deep_inside_is_looked_at(line: bytes, whole: str) -> None:
    assert said({"any.jsonl": line}) == whole


@pytest.mark.parametrize("depth", range(900, 1000, 3))
def test_a_value_at_the_limit_of_nesting_gets_a_verdict(depth: int) -> None:
    assert "any.jsonl:1: " in said({"any.jsonl": b'{"instruction": ' + b"[" * depth + b"]" * depth + b', "output": "b"}'})


@pytest.mark.parametrize(
    ("schema", "whole"),
    [
        (
            "null",
            "s.json: not a JSON Schema: $: None is not of type 'object', 'boolean'\n  fix: mend it, or take `schema` out of the dataset (models.yaml:1)",
        ),
        (
            '{"$ref": "other.json#/x"}',
            "the dataset's JSON Schema refers to 'other.json#/x', which is not in it\n  fix: write it into the same file, below `$defs`",
        ),
    ],
)
def test_a_schema_that_can_not_be_used_is_refused(schema: str, whole: str) -> None:
    Path("s.json").write_text(schema, encoding="utf-8")
    with pytest.raises(BuildError) as error:
        said({"tone.jsonl": GOOD}, schema="s.json")
    assert str(error.value) == whole


def test_every_rule_has_a_file_that_trips_it() -> None:
    elsewhere = {"bom", "empty-file", "unreadable-file", "schema"}  # above
    in_models = {"leaks", "too-long"}  # test_mixing.py
    assert set(TRIPS) | set(CHAT_TRIPS) | elsewhere | in_models | {"near-duplicates"} == set(RULES)


def test_all_faults_of_all_files_are_said_in_order_and_capped_with_the_rest_counted() -> None:
    lines = [b'{"instruction": "Why?"}'] * 30 + [b"no"]
    text = said({"b.jsonl": GOOD + b"\n" + b"\n".join(lines), "a.jsonl": b"no\n" + GOOD})
    faults = [line for line in text.splitlines() if not line.startswith("  fix")]
    assert faults[0] == "b.jsonl:2: missing key 'output' [missing-key]"
    assert len([line for line in faults if "missing key" in line]) == SHOWN
    assert faults[SHOWN:] == [
        "b.jsonl:32: not JSON: Expecting value at column 1 [not-json]",
        "a.jsonl:1: not JSON: Expecting value at column 1 [not-json]",
        "b.jsonl:21: and 10 more behind this [missing-key]",
        "a.jsonl:2: warning: the same record as b.jsonl:1 [duplicates]",
    ]


def test_a_record_that_is_none_is_left_out_and_counted_where_that_is_no_error() -> None:
    verdict, rows = checked(
        dataset_of({"tone.jsonl": b"no\n" + GOOD + b'\n{"instruction": "Why?"}'}, rules={"not-json": OFF, "missing-key": WARNING})
    )
    assert (verdict.faults, verdict.records, verdict.left_out, rows["line"].tolist()) == ([], 1, 2, [2])
    assert json.loads(verdict.marker)["left_out"] == 2
    assert set(UNREADABLE) <= set(RULES)


def test_a_secret_is_not_printed_whichever_rule_speaks_of_it() -> None:
    Path("short.json").write_text('{"properties": {"output": {"maxLength": 9}}}', encoding="utf-8")
    for output in (b'"' + KEY + b'"', b'["' + KEY + b'"]', b'{"a": "' + KEY + b'"}'):
        text = said({"tone.jsonl": GOOD + b'\n{"instruction": "How?", "output": ' + output + b"}"}, schema="short.json")
        assert "what looks like an AWS access key: AKIA... at character 1 [secrets]" in text
        assert KEY.decode() not in text


def test_a_secret_is_found_in_a_record_that_is_none() -> None:
    line = b'{"instruction": "How?", "input": "' + KEY + b'", "output": ""}'
    assert said({"tone.jsonl": GOOD + b"\n" + line}, rules={"blank-answer": OFF}) == (
        "tone.jsonl:2: $.input has what looks like an AWS access key: AKIA... at character 1 [secrets]\n"
        "  fix: take it out of the data, and make a new one: it has been in a repository"
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("ghp_" + "a1" * 18, "a GitHub token"),
        ("github_pat_" + "a1" * 20, "a GitHub token"),
        ("glpat-" + "a1" * 10, "a GitLab token"),
        ("xoxb-" + "1234567890-" * 3, "a Slack token"),
        ("sk-proj-" + "aB3" * 12, "an API key"),
        ("sk_live_" + "aB3" * 8, "a Stripe key"),
        ("AIza" + "aB3-_" * 7, "a Google API key"),
        ("hf_" + "aB" * 17, "a Hugging Face token"),
        ("npm_" + "aB3" * 12, "an npm token"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4", "a JSON Web Token"),
    ],
)
def test_common_shapes_of_secrets_are_found(text: str, kind: str) -> None:
    record = json.dumps({"instruction": "How?", "output": f"It is {text} I think."}).encode()
    assert f"output has what looks like {kind}: {text[:4]}... at character 7 [secrets]" in said({"tone.jsonl": GOOD + b"\n" + record})


@pytest.mark.parametrize(
    "text",
    ["task-force-of-some-very-long-hyphenated-words", "ask-me-anything-about-the-whole-thing", "AKIA is a prefix", "<s", "a | b", "### Instructions"],
)
def test_plain_words_are_no_secrets_and_no_tokens(text: str) -> None:
    assert said({"tone.jsonl": GOOD + b"\n" + json.dumps({"instruction": "How?", "output": text}).encode()}) == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
keys = st.sampled_from(
    ["instruction", "input", "output", "messages", "role", "content", "conversations", "from", "value", "tools", "text", "prompt", "completion"]
)
records = st.recursive(json_values, lambda inner: st.dictionaries(keys, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12)


@given(st.lists(records, min_size=1, max_size=4))
def test_any_json_value_on_any_line_gets_a_verdict(values: list[object]) -> None:
    verdict, rows = checked(dataset_of({"any.jsonl": "\n".join(json.dumps(value) for value in values).encode()}))
    assert len(rows) + verdict.left_out == len(values)
    assert bool(verdict.faults) or not verdict.left_out


@given(st.binary())
def test_any_bytes_get_a_verdict(content: bytes) -> None:
    verdict, rows = checked(dataset_of({"any.jsonl": content}))
    assert len(rows) or verdict.faults


def test_a_faulty_dataset_stops_the_build_before_anything_is_made(repo: Repo) -> None:
    repo.records("tone").write_bytes(GOOD + b"\n\n" + b'{"instruction": "How?"}\n')
    result = repo.doit()
    assert result.code == 1
    assert "\nvalidate:tone failed:\ndatasets/tone.jsonl:3: missing key 'output' [missing-key]\n  fix: add 'output' to the record\n" in result.out
    assert repo.trainings == []
    assert not (repo.path / "build/datasets/tone.json").exists()
    assert not (repo.path / "adapters").exists()
    assert repo.server.models == {}


def test_a_warning_is_printed_and_the_build_goes_on(repo: Repo) -> None:
    repo.records("tone").write_bytes(GOOD + b"\n" + GOOD + b"\n")
    result = repo.doit()
    assert result.code == 0
    assert "datasets/tone.jsonl:2: warning: the same record as datasets/tone.jsonl:1 [duplicates]\n" in result.out
    assert json.loads((repo.path / "build/datasets/tone.json").read_text(encoding="utf-8"))["warnings"] == {"duplicates": 1}


def test_a_build_says_how_many_lines_are_left_out(repo: Repo) -> None:
    repo.records("tone").write_bytes(GOOD + b"\nno\n")
    repo.replace("tone: {files: [datasets/tone.jsonl]}", "tone: {files: [datasets/tone.jsonl], rules: {not-json: off}}")
    assert "   tone: 1 of the lines are no record, and left out\n" in repo.doit().out


def test_a_file_that_can_not_be_read_on_is_always_an_error(repo: Repo) -> None:
    repo.replace("tone: {files: [datasets/tone.jsonl]}", "tone: {files: [datasets/tone.jsonl], rules: {unreadable-file: off}}")
    assert 'datasets.tone.rules.unreadable-file: "off" is not known\n  fix: known: error\n' in repo.doit().err


def test_a_dataset_that_is_mended_is_built(repo: Repo) -> None:
    good = repo.records("tone").read_bytes()
    assert repo.doit("validate:tone").code == 0
    repo.records("tone").write_bytes(b"not a record\n")
    assert repo.doit("validate:tone").code == 1
    assert not (repo.path / "build/datasets/tone.json").exists()
    repo.records("tone").write_bytes(good)
    assert repo.doit("validate:tone").code == 0
    assert (repo.path / "build/datasets/tone.json").exists()


def test_a_rule_of_the_dataset_is_changed_without_training(built: Repo) -> None:
    built.replace("tone: {files: [datasets/tone.jsonl]}", "tone: {files: [datasets/tone.jsonl], rules: {duplicates: error}}")
    assert built.doit().ran == ["validate:tone"]
