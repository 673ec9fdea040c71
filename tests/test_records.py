"""Records: the text that is made of them, and what became of them since."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamake.errors import BuildError
from ollamake.records.block import ROW, Rows, check_block
from ollamake.records.formats import FORMATS, Chat, Layout, Pair, Record, Text, conversation, messages_in
from ollamake.records.index import difference
from ollamake.records.text import rendered

ALPACA = Layout(FORMATS["alpaca"])
texts = st.text(min_size=1).filter(str.strip)
SYSTEM = {"role": "system", "content": "Be kind."}
EXCHANGE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
CHAT = Chat((*EXCHANGE, {"role": "user", "content": "So?"}, {"role": "assistant", "content": "Yes."}))


@given(st.builds(Pair, texts, st.text(), texts), st.none() | texts)
def test_a_record_comes_back_whole_from_chat_text(record: Pair, system: str | None) -> None:
    line = rendered(record, "chat", system)
    assert line.count("\n") == 1
    *head, user, assistant = json.loads(line)["messages"]
    assert head == ([{"role": "system", "content": system}] if system else [])
    assert user["content"].startswith(record.instruction)
    assert user["content"].endswith(record.input)
    assert assistant == {"role": "assistant", "content": record.output}


def test_chat_text_is_this_to_the_byte() -> None:
    assert rendered(Pair("Größe?", "von Ü", "Gut \u2028 so."), "chat", "Hilf.") == (
        '{"messages":[{"content":"Hilf.","role":"system"},{"content":"Größe?\\n\\nvon Ü","role":"user"},'
        '{"content":"Gut \u2028 so.","role":"assistant"}]}\n'
    )


def test_a_chat_keeps_every_turn_and_its_own_system_prompt() -> None:
    assert json.loads(rendered(CHAT, "chat", "Be short."))["messages"] == [{"role": "system", "content": "Be short."}, *CHAT.messages]
    own = Chat((SYSTEM, *EXCHANGE), ({"name": "add"},))
    assert json.loads(rendered(own, "chat", "Be short.")) == {"messages": [SYSTEM, *EXCHANGE], "tools": [{"name": "add"}]}
    assert rendered(Text("As it is.\n"), "chat", "Be short.") == '{"text":"As it is.\\n"}\n'


def test_alpaca_text_is_as_llama_factory_reads_it() -> None:
    assert json.loads(rendered(Pair("Add.", "1 1", "2"), "alpaca", None)) == {"instruction": "Add.", "input": "1 1", "output": "2"}
    assert json.loads(rendered(CHAT, "alpaca", "Be short.")) == {
        "system": "Be short.",
        "instruction": "So?",
        "input": "",
        "output": "Yes.",
        "history": [["Hi", "Ho"]],
    }


def test_plain_text_is_this_to_the_byte() -> None:
    records = [Pair("Add.", "1 1", "2"), Pair("Hi", "", "Ho")]
    assert "".join(rendered(record, "text", "Calc.") for record in records) == (
        "Calc.\n\n### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n2\n\nCalc.\n\n### Instruction:\nHi\n\n### Response:\nHo\n\n"
    )
    assert rendered(CHAT, "text", None) == "### Instruction:\nHi\n\n### Response:\nHo\n\n### Instruction:\nSo?\n\n### Response:\nYes.\n\n"
    assert rendered(Text("As it is."), "text", "Calc.") == "As it is.\n\n"


@pytest.mark.parametrize(
    ("record", "text_format", "what"),
    [
        (Text("a"), "alpaca", "a text without a prompt"),
        (Chat((*EXCHANGE, {"role": "tool", "content": "3"}, EXCHANGE[1])), "alpaca", "a chat with tools"),
        (Chat(tuple(EXCHANGE), ({"name": "add"},)), "text", "a chat with tools"),
    ],
)
def test_what_a_form_can_not_say_is_refused(record: Record, text_format: str, what: str) -> None:
    with pytest.raises(BuildError) as error:
        rendered(record, text_format, None)
    assert str(error.value) == (
        f"{what} can't be said in the form that this trainer reads\n  fix: train it by a trainer that reads chats, or leave it out"
    )


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()})))
def test_a_conversation_in_one_text_comes_back_whole(messages: list[dict[str, Any]]) -> None:
    assert list(messages_in(conversation(messages))) == messages


def rows(*records: tuple[str, str]) -> Rows:
    lines = [json.dumps({"instruction": instruction, "output": output}) for instruction, output in records]
    return check_block("\n".join(lines).encode(), ALPACA).rows if lines else check_block(b"", ALPACA).rows.astype(ROW)


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
    assert str(difference(rows(*before), rows(*now), ALPACA.parts)) == said


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123"))), st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123"))))
def test_every_record_is_accounted_for(before, now) -> None:
    found = difference(rows(*before), rows(*now), ALPACA.parts)
    assert len(now) - len(before) == found.added - found.removed
    assert (found.added + found.removed + len(found.changed) == 0) == (sorted(before) == sorted(now))
    assert all(keys and 1 <= line <= len(now) for line, keys in found.changed)
