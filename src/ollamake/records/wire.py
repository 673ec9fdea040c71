"""Lines -> columns of texts, by a decoder in C. Lines that are not plainly without fault have no columns: they are looked at with care."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from ollamake.records.formats import MESSAGE_KEYS, ROLES, SENDERS, Layout, conversation
from ollamake.records.json_text import DEEPEST
from ollamake.records.order import order_faults
from ollamake.records.raw import Places, Raw, quotes_of, raw_of

Texts: TypeAlias = Sequence[str]  # one of each record
LONGEST_PLAIN = 300  # bytes of a value beyond the layout's keys that is not looked at with care, where it is no text
_NOT_PLAIN = re.compile(rb"\{|[0-9.][eE]\+?[0-9]{2}")  # an object, which may have a key twice; a number that may be too large
_ESCAPED = re.compile(r'["\\\x00-\x1f]')  # of a key: the decoder does not take it
SAMPLE = 50  # lines
_ABSENT = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Others:
    """What is in records beyond the keys of their layout."""

    records: Places  # those with such keys
    count: int  # of the keys, in all of them
    quotes: int  # that open or close the keys and the texts in their values


@dataclass(frozen=True, slots=True)
class Columns:
    """The texts of records."""

    parts: tuple[Texts, Texts, Texts]  # by Format.parts
    characters: NDArray[np.uint32]  # of all texts of each record
    raw: Raw
    others: Others


@dataclass(frozen=True, slots=True)
class _Read:
    parts: tuple[Texts, Texts, Texts]
    quotes: int  # that open or close the texts and keys of the records
    contents: Sequence[Texts] = ()  # what is counted as characters, where that is not the parts: one list of texts a record


def columns_of(lines: bytes, layout: Layout) -> Columns | None:
    """The columns of these lines, one record on each; None where there may be a fault of form, a blank line or white space around a record."""
    extras: tuple[str, ...] = ()
    try:
        try:
            records = _decoder(layout)(lines)
        except msgspec.ValidationError:
            extras = _extras_of(lines, layout)
            if not extras:
                return None
            records = _decoder(layout, extras)(lines)
        others = _others(records, len(extras))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NotPlainError):
        return None
    raw = raw_of(lines, len(records)) if records else None
    read = _columns[layout.format.name](records) if raw is not None else None
    # The decoder takes the last of two equal keys without a word, but it can't hide their quotes.
    if raw is None or read is None or raw.quotes != read.quotes + others.quotes:
        return None
    if read.contents:
        characters = np.fromiter((sum(map(len, texts)) for texts in read.contents), np.uint32, len(records))
    else:
        characters = sum((np.fromiter(map(len, part), np.uint32, len(records)) for part in read.parts), np.zeros(len(records), np.uint32))
    return Columns(read.parts, characters, raw, others)


@lru_cache
def _decoder(layout: Layout, extras: tuple[str, ...] = ()) -> Callable[[bytes], list[Any]]:
    """What decodes lines of this layout, in which these other keys may be too. Raises _NotPlainError where it could not find a key."""
    if any(_ESCAPED.search(key) for key in (*layout.known, *map(layout.named, MESSAGE_KEYS.get(layout.format.name, ())), *extras)):
        raise _NotPlainError
    name = layout.format.name
    optional_text = str | None | UnsetType
    fields: dict[str, list[tuple[str, Any] | tuple[str, Any, Any]]] = {
        "alpaca": [("instruction", str), ("output", str), ("input", optional_text, UNSET)],
        "prompt-completion": [("prompt", str), ("completion", str)],
        "text": [("text", str)],
    }
    if name in MESSAGE_KEYS:
        who, what = MESSAGE_KEYS[name]
        senders = Literal[tuple(SENDERS)] if name == "sharegpt" else Literal[ROLES]  # read when it runs
        message = _struct("Message", [(who, senders), (what, str)], layout)
        fields["chat"] = [("messages", list[message])]  # type: ignore[valid-type]
        fields["sharegpt"] = [("conversations", list[message]), ("system", optional_text, UNSET)]  # type: ignore[valid-type]
    return msgspec.json.Decoder(_struct("Record", fields[name], layout, extras)).decode_lines


def _extras_of(lines: bytes, layout: Layout) -> tuple[str, ...]:
    """The keys of the first records that records of this layout do not have. Those of the others are mostly the same."""
    first = msgspec.json.decode(b"[%b]" % b",".join(lines.split(b"\n", SAMPLE)[:SAMPLE]).rstrip(b","))
    keys = {key for record in first if isinstance(record, dict) for key in record}
    return tuple(sorted(keys - set(layout.known)))


def _others(records: list[Any], extras: int) -> Others:
    """What is in this many keys beyond the layout's. Raises _NotPlainError and UnicodeDecodeError."""
    places, quotes, count = np.zeros(len(records), np.bool_), 0, 0
    for number in range(extras):
        values = list(map(bytes, map(attrgetter(f"extra_{number}"), records)))
        if any(value[:1] != b'"' and (len(value) > LONGEST_PLAIN or _NOT_PLAIN.search(value) or value.count(b"[") >= DEEPEST) for value in values):
            raise _NotPlainError
        joined = b"".join(values)
        joined.decode()  # the decoder did not look
        there = np.fromiter(map(bool, values), np.bool_, len(values))
        places |= there
        count += int(there.sum())
        quotes += quotes_of(joined)
    return Others(np.flatnonzero(places), count, quotes + 2 * count)


class _NotPlainError(Exception):
    """A value in which something may be wrong that the decoder does not see."""


def _struct(name: str, fields: Sequence[Any], layout: Layout, extras: Sequence[str] = ()) -> type[msgspec.Struct]:
    names = {f"field_{key}": layout.named(key) for key, *_ in fields}
    names.update((f"extra_{number}", key) for number, key in enumerate(extras))
    safe = [(f"field_{key}", *rest) for key, *rest in fields]  # `from` is no name in Python
    safe += [(f"extra_{number}", msgspec.Raw, _ABSENT) for number in range(len(extras))]
    return msgspec.defstruct(name, safe, rename=names, forbid_unknown_fields=True, gc=False)


def _any_blank(*columns: Texts) -> bool:
    return any(not all(column) or any(map(str.isspace, column)) for column in columns)


def _alpaca(records: list[Any]) -> _Read | None:
    # Loops that name the field: twice as fast as any other way.
    instructions = [record.field_instruction for record in records]
    given = [record.field_input for record in records]
    outputs = [record.field_output for record in records]
    if _any_blank(instructions, outputs):
        return None
    absent, null = given.count(UNSET), given.count(None)
    inputs = [text or "" for text in given]
    quotes = 8 * len(records) + 4 * (len(records) - absent - null) + 2 * null
    return _Read((instructions, inputs, outputs), quotes)


def _prompt_completion(records: list[Any]) -> _Read | None:
    prompts, completions = [record.field_prompt for record in records], [record.field_completion for record in records]
    if _any_blank(prompts, completions):
        return None
    return _Read((prompts, [""] * len(records), completions), 8 * len(records))


def _text(records: list[Any]) -> _Read | None:
    texts = [record.field_text for record in records]
    if _any_blank(texts):
        return None
    nothing = [""] * len(records)
    return _Read((texts, nothing, nothing), 4 * len(records))


def _chat(records: list[Any]) -> _Read | None:
    return _conversations([[(message.field_role, message.field_content) for message in record.field_messages] for record in records], 0)


def _sharegpt(records: list[Any]) -> _Read | None:
    conversations = [
        [
            *([("system", record.field_system)] if record.field_system else []),
            *((SENDERS[message.field_from], message.field_value) for message in record.field_conversations),
        ]
        for record in records
    ]
    systems = [record.field_system for record in records]
    absent, null = systems.count(UNSET), systems.count(None)
    # A prompt under `system` has the quotes of two texts; as a message, those of four are counted for it.
    prompts = sum(map(bool, systems))
    return _conversations(conversations, 4 * (len(records) - absent - null) + 2 * null - 8 * prompts)


def _conversations(conversations: list[list[tuple[str, str]]], quotes: int) -> _Read | None:
    """What is read of conversations, (role, content) each turn; `quotes` are those in the JSON beyond the messages'."""
    if not all(_in_order(tuple(role for role, _ in turns)) for turns in conversations):
        return None
    contents = [[content for _, content in turns] for turns in conversations]
    if any(not content or content.isspace() for texts in contents for content in texts):
        return None
    before = [conversation([{"role": role, "content": content} for role, content in turns[:-1]]) for turns in conversations]
    answers = [texts[-1] for texts in contents]
    # A message has four texts in the JSON, and the key of the list is one more.
    quotes += 2 * len(conversations) + 8 * sum(map(len, conversations))
    return _Read((before, [""] * len(conversations), answers), quotes, contents)


@cache
def _in_order(roles: tuple[str, ...]) -> bool:
    return not any(order_faults(roles, "", 0))


_columns: Mapping[str, Callable[[list[Any]], _Read | None]] = {
    "alpaca": _alpaca,
    "prompt-completion": _prompt_completion,
    "text": _text,
    "chat": _chat,
    "sharegpt": _sharegpt,
}
