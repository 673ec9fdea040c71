"""Datasets: every fault of a file is named at its line, and a faulty one stops before anything is made of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Repo
from ollamake.errors import Fault, Mark
from ollamake.records.index import difference, index_of
from ollamake.records.records import Record, read_records
from ollamake.records.text import chat_lines, plain_lines, render

GOOD = b'{"instruction": "Why?", "output": "Because."}'

FAULTS = {
    "not UTF-8": (b'{"instruction": "caf\xe9", "output": "x"}', ["not UTF-8: byte 21 of the line is 0xe9", "save the file as UTF-8"]),
    "not JSON": (b'{"instruction": "Why?" "output": "x"}', ["not JSON: Expecting ',' delimiter at column 24", "write one whole JSON object a line"]),
    "cut off": (b'{"instruction": "Why', ["not JSON: Unterminated string starting at at column 17", "write one whole JSON object a line"]),
    "two objects": (GOOD + GOOD, ["not JSON: Extra data at column 46", "write one whole JSON object a line"]),
    "NaN": (b'{"instruction": NaN, "output": "x"}', ["not JSON: NaN is no JSON number", "write one whole JSON object a line"]),
    "nested without end": (b"[" * 100_000, ["not JSON: nested too deep", "write one flat JSON object a line"]),
    "a list": (b'["Why?", "Because."]', ['not an object: ["Why?", "Because."]', 'write {"instruction": "...", "output": "..."}']),
    "a text": (b'"Why?"', ['not an object: "Why?"', 'write {"instruction": "...", "output": "..."}']),
    "no instruction": (b'{"output": "x"}', ["missing key 'instruction'", "add 'instruction' to the record"]),
    "no output": (b'{"instruction": "Why?"}', ["missing key 'output'", "add 'output' to the record"]),
    "misspelt key": (
        b'{"instruction": "Why?", "output": "x", "inptu": "y"}',
        ["unknown key 'inptu'", "write 'input' (known: input, instruction, output)"],
    ),
    "key twice": (b'{"instruction": "Why?", "output": "x", "output": "y"}', ["key 'output' stands twice", "keep one of the two"]),
    "blank instruction": (b'{"instruction": " ", "output": "x"}', ["blank instruction", "write the instruction, or delete the line"]),
    "blank output": (b'{"instruction": "Why?", "output": "\\n"}', ["blank output", "write the output, or delete the line"]),
    "a number": (b'{"instruction": "Why?", "output": 7}', ["output is not a text: 7", "put it in quotes"]),
    "null": (b'{"instruction": null, "output": "x"}', ["instruction is not a text: null", "put it in quotes"]),
    "input not a text": (b'{"instruction": "Why?", "input": {"a": 1}, "output": "x"}', ['input is not a text: {"a": 1}', "put it in quotes"]),
    "half a character": (
        b'{"instruction": "Why?", "output": "\\ud83d"}',
        ['output has half of a surrogate pair: "\\ud83d"', "write the character itself"],
    ),
}


@pytest.mark.parametrize(("line", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_at_its_line_and_stops_the_build(repo: Repo, line: bytes, said: list[str]) -> None:
    repo.records("tone").write_bytes(GOOD + b"\n\n" + line + b"\n")
    result = repo.doit()
    message, fix = said
    assert result.code == 1
    assert f"\nvalidate:tone failed:\ndatasets/tone.jsonl:3: {message}\n  fix: {fix}\n" in result.out
    assert repo.trainings == []
    assert not (repo.path / "build/datasets/tone.json").exists()
    assert not (repo.path / "adapters").exists()
    assert repo.server.models == {}


def test_every_fault_of_a_dataset_is_named_in_one_run_in_order(repo: Repo) -> None:
    repo.records("tone").write_bytes(b"\n".join(line for line, _ in FAULTS.values()))
    result = repo.doit()
    named = [line for line in result.out.splitlines() if line.startswith("datasets/tone.jsonl:")]
    assert named == [f"datasets/tone.jsonl:{number}: {message}" for number, (_, (message, _)) in enumerate(FAULTS.values(), start=1)]


def test_a_dataset_that_is_mended_is_built(repo: Repo) -> None:
    good = repo.records("tone").read_bytes()
    assert repo.doit("validate:tone").code == 0
    repo.records("tone").write_bytes(b"not a record\n")
    assert repo.doit("validate:tone").code == 1
    assert not (repo.path / "build/datasets/tone.json").exists()
    repo.records("tone").write_bytes(good)
    assert repo.doit("validate:tone").code == 0
    assert (repo.path / "build/datasets/tone.json").exists()


def test_an_empty_file_is_a_fault() -> None:
    fault = Fault(mark=Mark("a.jsonl", 1), text="no record in the file", fix="write one JSON object a line, or delete the file")
    assert read_records(b"\n \n", "a.jsonl") == ([], [fault])


@given(st.binary())
def test_any_line_is_records_or_faults(line: bytes) -> None:
    records, faults = read_records(line, "a.jsonl")
    assert records or faults


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.dictionaries(st.sampled_from(["instruction", "input", "output", "other"]), json_values))
def test_any_object_is_a_record_or_has_faults(value: dict[str, object]) -> None:
    records, faults = read_records(json.dumps(value).encode(), "a.jsonl")
    assert len(records) == (0 if faults else 1)


texts = st.text(min_size=1).filter(str.strip)


@given(st.lists(st.builds(Record, texts, st.text(), texts), min_size=1), st.none() | texts)
def test_records_come_back_whole_from_chat_text(records: list[Record], system: str | None) -> None:
    lines = "".join(chat_lines(records, system)).split("\n")
    assert lines.pop() == ""
    for record, line in zip(records, lines, strict=True):
        *head, user, assistant = json.loads(line)["messages"]
        assert head == ([{"role": "system", "content": system}] if system else [])
        assert user["content"].startswith(record.instruction)
        assert user["content"].endswith(record.input)
        assert assistant == {"role": "assistant", "content": record.output}


def test_chat_text_is_this_to_the_byte() -> None:
    record = Record("Größe?", "von Ü", "Gut \u2028 so.")
    (line,) = chat_lines([record], "Hilf.")
    assert line == (
        '{"messages":[{"content":"Hilf.","role":"system"},{"content":"Größe?\\n\\nvon Ü","role":"user"},'
        '{"content":"Gut \u2028 so.","role":"assistant"}]}\n'
    )


def test_plain_text_is_this_to_the_byte() -> None:
    assert "".join(plain_lines([Record("Add.", "1 1", "2"), Record("Hi", "", "Ho")], "Calc.")) == (
        "Calc.\n\n### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n2\n\nCalc.\n\n### Instruction:\nHi\n\n### Response:\nHo\n\n"
    )


def test_a_trainer_gets_the_format_that_it_reads() -> None:
    records = [Record("a", "", "b")]
    assert list(render(records, "chat", None)) == list(chat_lines(records, None))
    assert list(render(records, "text", None)) == list(plain_lines(records, None))


def rows(*records: tuple[str, str]) -> list[list[int]]:
    return index_of(
        Record(instruction=instruction, input="", output=output, line=line) for line, (instruction, output) in enumerate(records, start=1)
    )


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "2"), ("c", "3")], "1 record added"),
        ([("a", "1"), ("b", "2"), ("c", "3")], [("b", "2")], "2 records removed"),
        ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "3")], "1 record changed (line 2: output)"),
        ([("a", "1"), ("b", "2")], [("a", "1"), ("x", "2")], "1 record changed (line 2: instruction)"),
        ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")], "the records are in another order"),
        ([("a", "1")], [("a", "1")], "the records are the same, written otherwise"),
        ([("a", "1"), ("a", "1")], [("a", "1")], "1 record removed"),
        (
            [("a", "1"), ("b", "2"), ("c", "3")],
            [("x", "9"), ("a", "1"), ("b", "0"), ("y", "8")],
            "2 records added, 1 removed, 1 changed (line 3: output)",
        ),
        (
            [(name, "1") for name in "abcdef"],
            [(name, "2") for name in "abcdef"],
            "6 records changed (line 1: output; line 2: output; line 3: output; 3 more)",
        ),
    ],
)
def test_what_became_of_records_is_told(before, now, said: str) -> None:
    assert str(difference(rows(*before), rows(*now))) == said


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123"))), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123"))))
def test_every_record_is_accounted_for(before, now) -> None:
    found = difference(rows(*before), rows(*now))
    assert len(now) - len(before) == found.added - found.removed
    assert (found.added + found.removed + len(found.changed) == 0) == (sorted(before) == sorted(now))
    assert all(keys and 1 <= line <= len(now) for line, keys in found.changed)
