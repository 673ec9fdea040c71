"""Records -> the text that a trainer reads. Pure: the same records give the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollamake.digest import canonical_json
from ollamake.records.records import Record

FORMATS = {"chat": "jsonl", "text": "txt"}  # what a trainer may read -> how the file ends


def prompt_of(record: Record) -> str:
    """What the user says: the instruction, and below it the input where there is one."""
    return f"{record.instruction}\n\n{record.input}" if record.input else record.instruction


def chat_lines(records: Iterable[Record], system: str | None) -> Iterator[str]:
    """Chat JSONL: one object with `messages` a line."""
    head = [{"role": "system", "content": system}] if system else []
    for record in records:
        turns = [{"role": "user", "content": prompt_of(record)}, {"role": "assistant", "content": record.output}]
        yield canonical_json({"messages": [*head, *turns]}) + "\n"


def plain_lines(records: Iterable[Record], system: str | None) -> Iterator[str]:
    """Plain text for llama.cpp, which knows no records: a block for each, in the form of the Alpaca prompts."""
    for record in records:
        parts = [f"### Instruction:\n{record.instruction}\n"]
        if system:
            parts.insert(0, f"{system}\n")
        if record.input:
            parts.append(f"### Input:\n{record.input}\n")
        parts.append(f"### Response:\n{record.output}\n")
        yield "\n".join(parts) + "\n"


def render(records: Iterable[Record], text_format: str, system: str | None) -> Iterator[str]:
    """The text in one of FORMATS, piece by piece."""
    return {"chat": chat_lines, "text": plain_lines}[text_format](records, system)
