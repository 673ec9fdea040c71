"""Records -> the text that a trainer reads. Pure: the same records give the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ollamake.digest import canonical_json
from ollamake.errors import BuildError
from ollamake.records.formats import Chat, Pair, Record, Text

_NO_PROMPT, _TOOLS = "a text without a prompt", "a chat with tools"


def rendered(record: Record, text_format: str, system: str | None) -> str:
    """The record in one of graph's TEXT_FORMATS, its line end included. Raises BuildError where it can't be said in that.

    `system` is put before a record that has no system prompt of its own.
    """
    if text_format == "chat":
        return canonical_json(chat_of(record, system)) + "\n"
    if text_format == "alpaca":
        return canonical_json(_alpaca(record, system)) + "\n"
    return "".join(f"{part}\n" for part in _plain(record, system))


def chat_of(record: Record, system: str | None) -> dict[str, Any]:
    """The record as chat JSONL has it: `messages` and, where there, `tools`; `text` alone of one that is learnt as it is."""
    if isinstance(record, Text):
        return {"text": record.text}
    tools = {"tools": list(record.tools)} if isinstance(record, Chat) and record.tools else {}
    return {"messages": turns_of(record, system), **tools}


def turns_of(record: Pair | Chat, system: str | None) -> list[dict[str, Any]]:
    """The turns of the record, behind its system prompt, or else this one."""
    turns = record.turns()
    return [{"role": "system", "content": system}, *turns] if system and turns[0]["role"] != "system" else turns


def _alpaca(record: Record, system: str | None) -> dict[str, Any]:
    """The record as LLaMA-Factory reads alpaca: earlier turns are its `history`."""
    if isinstance(record, Pair):
        return {**({"system": system} if system else {}), "instruction": record.instruction, "input": record.input, "output": record.output}
    if isinstance(record, Text):
        raise _unsayable(_NO_PROMPT)
    system, exchanges = _exchanges(record, system)
    *history, (instruction, output) = exchanges
    return {
        **({"system": system} if system else {}),
        "instruction": instruction,
        "input": "",
        "output": output,
        **({"history": [list(exchange) for exchange in history]} if history else {}),
    }


def _plain(record: Record, system: str | None) -> Iterator[str]:
    """Plain text for llama.cpp, which knows no records: a block for each, in the form of the Alpaca prompts."""
    if isinstance(record, Text):
        yield f"{record.text}\n"
        return
    if isinstance(record, Pair):
        exchanges = [(record.instruction, record.output)]
    else:
        system, exchanges = _exchanges(record, system)
    if system:
        yield f"{system}\n"
    for instruction, output in exchanges:
        yield f"### Instruction:\n{instruction}\n"
        if isinstance(record, Pair) and record.input:
            yield f"### Input:\n{record.input}\n"
        yield f"### Response:\n{output}\n"


def _exchanges(record: Chat, system: str | None) -> tuple[str | None, list[tuple[str, str]]]:
    """The system prompt, and each question with its answer."""
    turns = list(record.messages)
    if turns[0]["role"] == "system":
        system = str(turns.pop(0)["content"])
    if record.tools or any(turn["role"] == "tool" or turn.get("tool_calls") for turn in turns):
        raise _unsayable(_TOOLS)
    contents = [str(turn["content"]) for turn in turns]
    return system, list(zip(contents[::2], contents[1::2], strict=True))


def _unsayable(what: str) -> BuildError:
    return BuildError(f"{what} can't be said in the form that this trainer reads", fix="train it by a trainer that reads chats, or leave it out")
