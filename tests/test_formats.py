"""Formats and files: whatever the records are written in, they are the same records; and the fast way finds what the careful one finds."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from datasets import checked, dataset_of, said
from ollamake.catalog import Dataset
from ollamake.errors import BuildError
from ollamake.records import block as blocks
from ollamake.records.block import Block, check_block, read_block
from ollamake.records.formats import FORMATS, Chat, Layout, Pair, Record, Text
from ollamake.records.rules import Findings
from ollamake.records.wire import columns_of
from ollamake.stages.piece import Piece
from ollamake.stages.reading import layout_of

RECORDS = [{"instruction": f"Why {number}?", "output": f"Größe {number}\n\u2028."} for number in range(3)]
TEXT = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines_of(values: list[Any]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def zstd(content: bytes) -> bytes:
    from backports.zstd import compress

    return compress(content)


def parquet(values: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa

    return parquet_of(pa.Table.from_pylist(values))


def parquet_table(columns: dict[str, list[Any]], names: list[str] | None = None) -> bytes:
    import pyarrow as pa

    return parquet_of(pa.Table.from_arrays(list(map(pa.array, columns.values())), names=names or list(columns)))


def parquet_of(table: Any) -> bytes:
    import io

    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def csv(values: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    import csv
    import io

    file = io.StringIO()
    writer = csv.DictWriter(file, list(values[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(values)
    return file.getvalue().encode()


WRITTEN = {
    "a.jsonl": TEXT,
    "crlf.jsonl": TEXT.replace(b"\n", b"\r\n"),
    "blank.jsonl": b"\n \n" + TEXT.replace(b"\n", b"\n\n"),
    "bom.jsonl": b"\xef\xbb\xbf" + TEXT,
    "a.jsonl.gz": gzip.compress(TEXT, mtime=0),
    "a.jsonl.zst": zstd(TEXT),
    "lines.json": TEXT,
    "array.json": json.dumps(RECORDS).encode(),
    "pretty.json": json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
    "pretty.json.gz": gzip.compress(json.dumps(RECORDS, indent=2).encode(), mtime=0),
    "a.csv": csv(RECORDS),
    "a.tsv": csv(RECORDS, "\t"),
    "a.parquet": parquet(RECORDS),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_records_have_one_digest_in_whatever_file_they_are(name: str) -> None:
    plain, _ = checked(dataset_of({"plain.jsonl": TEXT}))
    verdict, _ = checked(dataset_of({name: WRITTEN[name]}))
    assert (verdict.faults, verdict.records, verdict.digest) == ([], 3, plain.digest)


def test_a_fault_in_any_file_is_named_at_its_line() -> None:
    bad = [*RECORDS, {"instruction": "How?"}]
    fix = "add 'output' to the record"
    for name, content, line in [
        ("a.jsonl.gz", gzip.compress(lines_of(bad), mtime=0), 4),
        ("pretty.json", json.dumps(bad, indent=2).encode(), 14),
        ("semicolons.csv", csv([{"instruction": "a", "output": "b\nc"}, {"instruction": "How?", "output": ""}]).replace(b",", b";"), 4),
        ("a.csv", csv([{"instruction": "a", "output": "b\nc"}, {"instruction": "How?", "output": ""}]), 4),
        ("a.parquet", parquet([*RECORDS, {"instruction": "How?", "output": None}]), 4),
    ]:
        assert said({name: content}) == f"{name}:{line}: missing key 'output' [missing-key]\n  fix: {fix}"


@pytest.mark.parametrize(
    ("name", "content", "whole"),
    [
        (
            "a.json",
            b'[{"instruction": "a", "output": "b"},\n {"instruction" "c"}]',
            "a.json:2: not JSON: Expecting ':' delimiter at column 17 [unreadable-file]\n  fix: write one JSON array of objects, or one object a line",
        ),
        (
            "b.json",
            b'[{"instruction": "a", "output": "b"}\n',
            "b.json:2: not JSON: Expecting ',' delimiter at column 1 [unreadable-file]\n  fix: write one JSON array of objects, or one object a line",
        ),
        (
            "c.json",
            b"[] x",
            "c.json:1: not JSON: Extra data at column 4 [unreadable-file]\n  fix: write one JSON array of objects, or one object a line",
        ),
        (
            "h.json",
            b'[{"instruction": "a", "output": "b", "x": ' + b"1" * 5000 + b"}]",
            "h.json:1: not JSON: a number of 5000 digits [unreadable-file]\n  fix: write one JSON array of objects, or one object a line",
        ),
        (
            "i.csv",
            b"instruction,output,output\na,b,c\n",
            "i.csv:1: column 'output' stands twice [unreadable-file]\n  fix: give each column a name of its own",
        ),
        ("d.json", b"[]", "d.json:1: no record in the file [empty-file]\n  fix: write one JSON object a line, or delete the file"),
        (
            "e.csv",
            b'instruction,output\na,b,c\n"x',
            "e.csv:2: 3 cells below a head of 2 [unreadable-file]\n  fix: put cells that hold the delimiter into quotes\n"
            "e.csv:3: not CSV: unexpected end of data [unreadable-file]\n  fix: mend the row, or write JSON lines",
        ),
        (
            "g.csv",
            b"instruction,output\na,b\n2\xff,c\nd,e\n",
            "g.csv:3: not UTF-8: a cell of this row [not-utf8]\n  fix: save the file as UTF-8",
        ),
        (
            "f.parquet",
            b"PAR1 no",
            "f.parquet:1: not Parquet: Parquet file size is 7 bytes, smaller than the minimum file footer (8 bytes) [unreadable-file]\n"
            "  fix: write the file again",
        ),
        (
            "binary.parquet",
            parquet_table({"instruction": ["a", "b", "c"], "output": [b"ok", b"\xff", b"\xc3\xbc"]}),
            "binary.parquet:2: not UTF-8: a value of this row [not-utf8]\n  fix: write texts as UTF-8",
        ),
        (
            "twice.parquet",
            parquet_table({"instruction": ["a"], "output": ["b"]}, names=["output", "output"]),
            "twice.parquet:1: column 'output' stands twice [unreadable-file]\n  fix: give each column a name of its own",
        ),
        (
            "pointer.parquet",
            b"version https://git-lfs.github.com/spec/v1\n",
            "pointer.parquet:1: the file is a pointer of git-lfs [unreadable-file]\n  fix: git lfs pull",
        ),
        (
            "head.csv",
            "instruction;output;réponse\na;b;c\n".encode("latin-1"),
            "head.csv:1: not UTF-8: the head [unreadable-file]\n  fix: save the file as UTF-8",
        ),
        (
            "nan.json",
            b'[\n{"instruction": "a", "output": "b"},\n{"instruction": "c", "output": NaN}]',
            "nan.json:3: not JSON: NaN is no JSON number [unreadable-file]\n  fix: write one JSON array of objects, or one object a line",
        ),
        (
            "bom.jsonl",
            b"\xef\xbb\xbf" + json.dumps(RECORDS[0], indent=2).encode(),
            "bom.jsonl:1: an object that goes over several lines [unreadable-file]\n  fix: write each record on one line, as `jq -c .` does\n"
            "bom.jsonl:1: warning: the file begins with a byte order mark [bom]\n  fix: save it as UTF-8 without one",
        ),
        (
            "broken.jsonl",
            json.dumps(RECORDS[0]).replace(", ", ",\n").encode(),
            "broken.jsonl:1: an object that goes over several lines [unreadable-file]\n  fix: write each record on one line, as `jq -c .` does",
        ),
        ("j.jsonl", TEXT.decode().encode("utf-16"), "j.jsonl:1: the file is UTF-16 [unreadable-file]\n  fix: save it as UTF-8"),
        ("k.csv", "instruction,output\n".encode("utf-16"), "k.csv:1: the file is UTF-16 [unreadable-file]\n  fix: save it as UTF-8"),
        ("l.jsonl", gzip.compress(TEXT, mtime=0), "l.jsonl:1: the file is gzip [unreadable-file]\n  fix: let the file's name end with .gz"),
        (
            "m.jsonl",
            json.dumps(RECORDS[0], indent=2).encode(),
            "m.jsonl:1: an object that goes over several lines [unreadable-file]\n  fix: write each record on one line, as `jq -c .` does",
        ),
        (
            "n.json",
            json.dumps({"data": RECORDS}, indent=2).encode(),
            "n.json:1: an object that goes over several lines [unreadable-file]\n"
            "  fix: write each record on one line, as `jq -c .` does, or a JSON array of them",
        ),
        (
            "o.jsonl",
            json.dumps(RECORDS).replace("}, ", "},\n").encode(),
            "o.jsonl:1: a JSON array under the name of JSON lines [unreadable-file]\n  fix: let the file's name end with .json",
        ),
        (
            "p.jsonl",
            TEXT + b'{"instruction": "' + b"a" * (1 << 24) + b'", "output": "b"}\n' + TEXT.replace(b"Why", b"How") + b"no",
            "p.jsonl:4: not JSON: a line of more than 16 MiB [not-json]\n  fix: write one JSON object a line: the line ends may be lost\n"
            "p.jsonl:8: not JSON: Expecting value at column 1 [not-json]\n  fix: write one whole JSON object a line",
        ),
    ],
)
def test_a_damaged_file_says_where(name: str, content: bytes, whole: str) -> None:
    assert said({name: content}) == whole


CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
MORE = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "Yes."}]
TOOL = {"type": "function", "function": {"name": "add"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}


@pytest.mark.parametrize(
    ("name", "line", "record"),
    [
        ("alpaca", {"instruction": "a", "input": "b", "output": "c"}, Pair("a", "b", "c")),
        ("alpaca", {"instruction": "a", "input": None, "output": "c"}, Pair("a", "", "c")),
        ("prompt-completion", {"prompt": "a", "completion": "c"}, Pair("a", "", "c")),
        ("text", {"text": "a"}, Text("a")),
        ("chat", {"messages": [*CHAT, *MORE]}, Chat((*CHAT, *MORE))),
        (
            "chat",
            {"messages": [CHAT[1], CALL, {"role": "tool", "content": "3"}, CHAT[2]], "tools": [TOOL]},
            Chat((CHAT[1], {**CALL, "content": ""}, {"role": "tool", "content": "3"}, CHAT[2]), (TOOL,)),
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}], "system": "Be kind."},
            Chat(tuple(CHAT)),
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
            Chat(tuple(CHAT)),
        ),
    ],
)
def test_a_format_is_found_by_its_first_record_and_read(name: str, line: dict[str, Any], record: Record) -> None:
    content = lines_of([line])
    verdict, rows = checked(dataset_of({"a.jsonl": content}))
    assert (verdict.format, verdict.faults, len(rows)) == (name, [], 1)
    assert read_block(content, Layout(FORMATS[name])) == ([record], 1)


def test_fields_give_keys_other_names() -> None:
    fields = (("instruction", "question"), ("output", "answer"))
    dataset = dataset_of({"a.jsonl": lines_of([{"question": "a", "answer": "b"}, {"question": "c", "anwser": "d"}])}, fields=fields)
    verdict, rows = checked(dataset)
    assert (verdict.format, len(rows)) == ("alpaca", 1)
    assert [str(fault) for fault in verdict.faults] == [
        "a.jsonl:2: unknown key 'anwser' [unknown-key]\n  fix: write 'answer' (known: answer, input, question)",
        "a.jsonl:2: missing key 'answer' [missing-key]\n  fix: add 'answer' to the record",
    ]
    chats = lines_of([{"messages": [{"speaker": "user", "text": "a"}, {"speaker": "assistant", "text": "b"}]}])
    verdict, _ = checked(dataset_of({"b.jsonl": chats}, fields=(("content", "text"), ("role", "speaker"))))
    assert (verdict.format, verdict.faults) == ("chat", [])


def test_a_field_that_the_format_does_not_have_is_refused() -> None:
    with pytest.raises(BuildError) as error:
        checked(dataset_of({"a.jsonl": TEXT}, fields=(("prompt", "instruction"),)))
    assert str(error.value) == (
        "models.yaml:1: dataset 'tone': fields: a record of format alpaca has no key 'prompt'\n  fix: known: input, instruction, output"
    )


def test_the_format_may_be_named() -> None:
    line = lines_of([{"text": "a"}])
    assert said({"a.jsonl": line}, format="chat") == (
        "a.jsonl:1: a record of format text; the dataset's are chat [mixed-formats]\n"
        "  fix: write it like the others, or put it into a dataset of its own"
    )


texts = st.text(max_size=6) | st.sampled_from(
    ["<|im_end|>", "</s>", "\x7f", "\x0c\\x0c", 'a "quote"', "\\", "AKIA2345672345672345", "\x07", " ", "\u2028"]
)
pairs = st.fixed_dictionaries({"instruction": texts, "output": texts}, optional={"input": texts | st.none()})
turns = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": texts}), max_size=4)
chats = st.fixed_dictionaries({"messages": turns})
shared = st.fixed_dictionaries(
    {"conversations": st.lists(st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system"]), "value": texts}), max_size=4)},
    optional={"system": texts | st.none()},
)
completions = st.fixed_dictionaries({"prompt": texts, "completion": texts})
plain = st.fixed_dictionaries({"text": texts})
BY_FORMAT = {"alpaca": pairs, "chat": chats, "sharegpt": shared, "prompt-completion": completions, "text": plain}
spoilt = st.sampled_from([b"", b" ", b"{}", b"{", b"[]", b'{"text": "a", "text": "b"}', b"\xff"])


@st.composite
def written(draw: Any, name: str) -> bytes:
    """Lines of records of this format, written in any way, with something else among them now and then."""
    lines = []
    for value in draw(st.lists(BY_FORMAT[name], max_size=6)):
        for key in draw(st.sampled_from([(), (), ("id",), ("id", "a source")])):
            value[key] = draw(texts | st.integers() | st.none() | st.lists(texts) | st.dictionaries(texts, texts) | st.just(10**400))
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t:")])))
        if draw(st.booleans()):
            text = text.replace("<", "\\u003c").replace("/", "\\/").replace('\\"', "\\u0022")
        lines.append(draw(st.sampled_from(["", " "])) + text + draw(st.sampled_from(["", " ", "\r"])))
    parts = [line.encode() for line in lines]
    if draw(st.integers(0, 3)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(spoilt))
    return b"\n".join(parts) + draw(st.sampled_from([b"", b"\n"]))


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_the_fast_way_finds_what_the_careful_one_finds(name: str, data: st.DataObject) -> None:
    content = data.draw(written(name))
    layout = Layout(FORMATS[name])
    fast = check_block(content, layout)
    lines = [line for line in enumerate(map(bytes.rstrip, content.removesuffix(b"\n").split(b"\n")), start=1) if line[1]]
    careful = blocks._careful(lines, layout, None)
    assert fast.rows.tobytes() == careful.rows.tobytes()
    assert fast.left_out == careful.left_out
    assert fast.findings.counts == careful.findings.counts
    assert sorted(fast.findings.first, key=str) == sorted(careful.findings.first, key=str)
    records, count = read_block(content, layout)
    assert [record.line for record in records] == careful.rows["line"].tolist()
    assert count == len(content.removesuffix(b"\n").split(b"\n"))


def test_what_parquet_and_csv_write_beside_texts_is_taken_as_it_is_meant() -> None:
    import datetime as dt

    table = parquet_table(
        {
            "instruction": ["a", "b"],
            "output": ["c", "d"],
            "score": [1.0, float("nan")],
            "at": [dt.datetime(2026, 1, 2), None],  # noqa: DTZ001 - as tables have it
        }
    )
    verdict, _ = checked(dataset_of({"a.parquet": table}, rules={"unknown-key": "off"}))
    assert (verdict.faults, verdict.records, verdict.left_out) == ([], 2, 0)
    structs = parquet([{"messages": [{"role": "user", "content": "a", "name": None}, {"role": "assistant", "content": "b", "name": None}]}])
    verdict, _ = checked(dataset_of({"a.parquet": structs}))
    assert (verdict.faults, verdict.records) == ([], 1)
    verdict, _ = checked(dataset_of({"a.csv": b"sep=;\n\ninstruction;output\na;b\n"}))
    assert (verdict.faults, verdict.records) == ([], 1)
    verdict, _ = checked(dataset_of({"a.csv": "instruction,output\na,b\né,c\n".encode("latin-1")}, rules={"not-utf8": "off"}))
    assert (verdict.faults, verdict.records, verdict.left_out) == ([], 1, 1)


SECRET = "AKIA2345672345672345"


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        (
            {"instruction": "a", "output": "b", "api_key": SECRET},
            "a.jsonl:1: $.api_key has what looks like an AWS access key: AKIA... at character 1 [secrets]",
        ),
        (
            {"instruction": "a", "output": "b", SECRET: 1},
            'a.jsonl:1: the key $["AKIA..."] has what looks like an AWS access key: AKIA... at character 1 [secrets]',
        ),
        (
            {"messages": [{"role": "user", "content": "a", "token": SECRET}, {"role": "assistant", "content": "b"}]},
            "a.jsonl:1: $.messages[0].token has what looks like an AWS access key: AKIA... at character 1 [secrets]",
        ),
        (
            {"instruction": ["x\n" + SECRET], "output": "y"},
            'a.jsonl:1: instruction is not a text: ["x\\nAKIA..."] [wrong-type]',
        ),
    ],
)
def test_a_secret_is_found_wherever_it_stands_and_never_printed(line: dict[str, Any], whole: str) -> None:
    for lines in ([line], [line, {**line, "id": 7}]):  # the second goes with care
        verdict, _ = checked(dataset_of({"a.jsonl": lines_of(lines)}, rules={"unknown-key": "off"}))
        told = [str(fault) for fault in verdict.faults]
        assert whole in [text.partition("\n")[0] for text in told]
        assert SECRET not in "".join(told)


def test_an_empty_list_of_calls_is_none() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    without, calling = {"messages": turns}, {"messages": [turns[0], {**turns[1], "tool_calls": []}]}
    verdict, rows = checked(dataset_of({"a.jsonl": lines_of([without, calling])}))
    assert verdict.counts("warning") == {"duplicates": 1}
    assert rows["parts"][0].tolist() == rows["parts"][1].tolist()


@pytest.mark.parametrize("rule", ["not-json", "not-utf8"])
def test_a_file_of_which_nothing_is_left_is_empty(rule: str) -> None:
    content = b"no\n" if rule == "not-json" else b"\xff\n"
    verdict, _ = checked(dataset_of({"a.jsonl": content}, rules={rule: "off"}))
    assert [str(fault).partition("\n")[0] for fault in verdict.faults] == ["a.jsonl:1: no record in the file [empty-file]"]


def test_columns_are_those_of_the_line_as_it_stands() -> None:
    assert "at column 25 [not-json]" in said({"a.jsonl": b'    {"instruction": "a" "output": "b"}\n'})


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "chat"),
        ({"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sharegpt"),
    ],
)
def test_messages_decide_on_the_format_whatever_they_are_called(value: dict[str, Any], name: str) -> None:
    verdict, _ = checked(dataset_of({"a.jsonl": lines_of([value, value])}))
    assert (verdict.faults, verdict.format, verdict.records) == ([], name, 2)
    (record, _), _ = read_block(lines_of([value, value]), layout_of(dataset_of({"a.jsonl": lines_of([value])})))
    assert record.turns() == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            "a.jsonl:1: unknown key 'chosen' [unknown-key]\n  fix: call it 'completion', or write `fields: {completion: chosen}` into the dataset\n"
            "a.jsonl:1: unknown key 'rejected' [unknown-key]\n"
            "  fix: known: completion, prompt; where all may stay as it is, write `rules: {unknown-key: off}` into the dataset\n"
            "a.jsonl:1: missing key 'completion' [missing-key]\n"
            "  fix: add 'completion' to the record, or write `fields: {completion: chosen}` into the dataset",
        ),
        (
            {"question": "a", "output": "b"},
            "a.jsonl:1: unknown key 'question' [unknown-key]\n  fix: call it 'instruction', or write `fields: {instruction: question}` into the dataset\n"
            "a.jsonl:1: missing key 'instruction' [missing-key]\n"
            "  fix: add 'instruction' to the record, or write `fields: {instruction: question}` into the dataset",
        ),
        (
            {"data": [{"instruction": "a", "output": "b"}]},
            "a.jsonl:1: unknown key 'data' [unknown-key]\n  fix: write the objects in 'data' one a line\n"
            "a.jsonl:1: missing key 'instruction' [missing-key]\n  fix: add 'instruction' to the record\n"
            "a.jsonl:1: missing key 'output' [missing-key]\n  fix: add 'output' to the record",
        ),
        (
            [{"instruction": "a", "output": "b"}],
            'a.jsonl:1: not an object: [{"instruction": "a", "output": "b"}] [not-an-object]\n'
            '  fix: write {"instruction": "...", "output": "..."}, or let the file\'s name end with .json where it is one array',
        ),
        (
            {"instruction": "a", "output": "b", "id": 7},
            "a.jsonl:1: unknown key 'id' [unknown-key]\n"
            "  fix: known: input, instruction, output; where all may stay as it is, write `rules: {unknown-key: off}` into the dataset",
        ),
    ],
)
def test_what_other_datasets_look_like_is_known(value: Any, whole: str) -> None:
    assert said({"a.jsonl": lines_of([value])}) == whole


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpaca", {"instruction": "a", "output": "C:\\"}),
        ("alpaca", {"instruction": "a", "output": 'Say "Größe"', "input": None}),
        ("alpaca", {"instruction": "a", "output": "\\\\", "input": ""}),
        ("chat", {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ("sharegpt", {"system": None, "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ("sharegpt", {"system": "So.", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
        ("prompt-completion", {"prompt": "a", "completion": "b"}),
        ("text", {"text": "\u007f"}),
        ("text", {"text": "a", "id": 7, "tags": ["a", 'so "called"'], "source": None}),
    ],
)
def test_what_has_no_fault_of_form_goes_the_fast_way(name: str, value: dict[str, Any]) -> None:
    assert columns_of(lines_of([value] * 3), Layout(FORMATS[name])) is not None


@pytest.mark.parametrize("beside", [b"", b"no\n"])
def test_what_is_no_white_space_of_json_has_one_verdict_and_is_read_by_none(beside: bytes) -> None:
    content = b'  {"instruction": "a", "output": "b"}\n\x0c{"instruction": "c", "output": "d"}\n' + beside
    block = check_block(content, Layout(FORMATS["alpaca"]))
    assert (block.rows["line"].tolist(), block.left_out) == ([1], 1 + bool(beside))
    assert [record.line for record in read_block(content, Layout(FORMATS["alpaca"]))[0]] == [1]


@given(st.lists(pairs, min_size=1, max_size=5), st.data())
@example([{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}], None)
def test_the_digest_is_of_the_records_alone(values: list[dict[str, Any]], data: st.DataObject | None) -> None:
    """Whatever the order of keys, the white space, the line ends and the split into files."""
    one, _ = checked(dataset_of({"one.jsonl": lines_of(values)}))
    cut = 1 if data is None else data.draw(st.integers(0, len(values)))
    reordered = [dict(reversed(value.items())) for value in values]
    first = "\r\n\r\n".join(json.dumps(value, indent=None, separators=(" , ", " : ")) for value in reordered[:cut]).encode()
    second = "\n".join(json.dumps(value, ensure_ascii=False) for value in reordered[cut:]).encode("utf-8", "surrogatepass")
    two, _ = checked(dataset_of({"first.jsonl": first, "second.jsonl": second}))
    assert (two.records, two.digest) == (one.records, one.digest)


def of_many_pieces() -> Dataset:
    values = [{"instruction": f"Why {number}?", "output": "x" * 900} for number in range(4000)]
    lines = lines_of(values).splitlines(keepends=True)
    lines[1234] = b"no\n"
    lines[3999] = lines[7]
    return dataset_of({"a.jsonl": b"".join(lines)})


@pytest.mark.parametrize("are_lost", [False, True])
def test_a_file_of_many_pieces_is_checked_the_same_by_several_processes(monkeypatch: pytest.MonkeyPatch, are_lost: bool) -> None:
    from ollamake.stages import checkers, checking

    begun: list[int] = []

    class Helper(checkers._Helper):
        def begin(self, piece: Piece) -> Future[Block]:
            begun.append(self.process.pid)
            if are_lost and len(begun) > 3:
                self.process.kill()
            return super().begin(piece)

    dataset = of_many_pieces()
    alone, rows = checked(dataset)
    monkeypatch.setattr(checking, "LARGE", 0)
    monkeypatch.setattr(checkers, "_Helper", Helper)
    together, rows_together = checked(dataset, processes=3)
    assert len(set(begun)) == 2
    assert rows.tobytes() == rows_together.tobytes()
    assert (
        list(map(str, together.faults))
        == list(map(str, alone.faults))
        == ["a.jsonl:1235: not JSON: Expecting value at column 1 [not-json]\n  fix: write one whole JSON object a line"]
    )
    assert [fault.mark.line for fault in together.warnings] == [4000]
    assert together.marker == alone.marker


def test_findings_that_are_merged_are_capped_and_counted() -> None:
    from ollamake.records.rules import SHOWN, Found

    first, second = Findings(), Findings()
    first.extend(Found("secrets", line, "x") for line in range(1, 16))
    second.extend(Found("secrets", line, "x") for line in range(1, 31))
    first.merge(second, lines_before=100)
    assert first.counts == {"secrets": 45}
    assert [found.line for found in first.first] == [*range(1, 16), *range(101, 101 + SHOWN - 15)]


lines = st.sampled_from(
    [json.dumps({"instruction": f"Why {number}?", "output": "x" * number}) for number in range(9)] + ["", " ", "no", '{"instruction": "a"}']
)
files = st.dictionaries(st.sampled_from(["a.jsonl", "b.jsonl"]), st.lists(lines, max_size=8).map("\n".join), min_size=1)


@given(st.lists(files, min_size=2, max_size=4))
def test_the_index_of_the_last_check_changes_no_verdict(versions: list[dict[str, str]]) -> None:
    from ollamake.stages import checking, sources
    from ollamake.stages.index_file import KnownIndex, index_text

    for version in versions:  # of a dataset that is edited, checked in pieces of a few lines
        dataset = dataset_of({path: text.encode() for path, text in version.items()})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "PIECE", 60)
            known = KnownIndex("kept.json")
            with Path("kept.partial").open("w+b") as rows:
                found = checking.check(dataset, known, rows, processes=1)
                text = index_text(found.index, rows)
            known.close()
        Path("kept.partial").rename("kept.rows")
        Path("kept.index").write_text(text, encoding="utf-8")
        whole, rows_of_whole = checked(dataset)
        assert found.verdict.marker == whole.marker
        assert list(map(str, found.verdict.faults)) == list(map(str, whole.faults))
        assert list(map(str, found.verdict.warnings)) == list(map(str, whole.warnings))
        assert Path("kept.rows").read_bytes() == rows_of_whole.tobytes()
