"""The formats of datasets: what their records look like in a file, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from ollamake.digest import canonical_json
from ollamake.records.quoted import path_below

ROLES = ("system", "user", "assistant", "tool")
SENDERS = {  # of sharegpt -> the role
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its answer: a record of `alpaca`, or of `prompt-completion`, which has no input."""

    instruction: str
    input: str  # empty where there is none
    output: str
    line: int = field(default=0, compare=False)  # of its file, from 1

    def parts(self) -> tuple[str, str, str]:
        """What a later state of the record is compared with, by the names of Format.parts; the last is the answer."""
        return self.instruction, self.input, self.output

    def texts(self, layout: Layout) -> list[tuple[str, str]]:
        """Each of its texts, behind its name."""
        return list(zip(layout.parts, self.parts(), strict=True))

    @property
    def characters(self) -> int:
        """How many its texts have."""
        return len(self.instruction) + len(self.input) + len(self.output)

    def turns(self) -> list[dict[str, Any]]:
        """The record as a chat."""
        prompt = f"{self.instruction}\n\n{self.input}" if self.input else self.instruction
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": self.output}]


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation: a record of `chat` or `sharegpt`."""

    messages: tuple[Mapping[str, Any], ...]  # role, content and, where there, name, tool_calls, tool_call_id
    tools: tuple[Any, ...] = ()  # JSON Schemas of the functions that the assistant may call
    line: int = field(default=0, compare=False)

    @property
    def has_tools(self) -> bool:
        """Are there tools that could be called in it, or calls of some?"""
        return bool(self.tools) or any("tool_calls" in message for message in self.messages)

    def parts(self) -> tuple[str, str, str]:
        """What a later state of the record is compared with: all before the last answer, the tools, the last answer."""
        *before, last = self.messages
        answer = last["content"] if set(last) == {"role", "content"} else canonical_json(last)
        return conversation(before), canonical_json(list(self.tools)) if self.tools else "", answer

    def texts(self, layout: Layout) -> list[tuple[str, str]]:
        """Each of its texts, behind its name."""
        found: list[tuple[str, str]] = []
        for number, message in enumerate(self.messages, start=1):
            at = f"turn {number} ({message['role']})"
            found.append((at, message["content"]))
            found += texts_in({key: value for key, value in message.items() if key not in {"role", "content"}}, at)
        return [*found, *texts_in(list(self.tools), layout.parts[1])]

    @property
    def characters(self) -> int:
        """How many its texts have."""
        return sum(len(message["content"]) for message in self.messages)

    def turns(self) -> list[dict[str, Any]]:
        """The record as a chat."""
        return [dict(message) for message in self.messages]


@dataclass(frozen=True, slots=True)
class Text:
    """A text that is learnt as it is: a record of `text`."""

    text: str
    line: int = field(default=0, compare=False)

    def parts(self) -> tuple[str, str, str]:
        """The text, as what is before an answer."""
        return self.text, "", ""

    def texts(self, layout: Layout) -> list[tuple[str, str]]:
        """The text, behind its name."""
        return [(layout.parts[0], self.text)]

    @property
    def characters(self) -> int:
        """How many it has."""
        return len(self.text)


Record: TypeAlias = Pair | Chat | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the records of a dataset are written."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    parts: tuple[str, str, str]  # names of what a change of a record is told by

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a record may have."""
        return (*self.required, *self.optional)


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format(name="alpaca", required=("instruction", "output"), optional=("input",), parts=("instruction", "input", "output")),
        Format(name="chat", required=("messages",), optional=("tools",), parts=("messages", "tools", "answer")),
        Format(name="sharegpt", required=("conversations",), optional=("system", "tools"), parts=("conversations", "tools", "answer")),
        Format(name="prompt-completion", required=("prompt", "completion"), parts=("prompt", "", "completion")),
        Format(name="text", required=("text",), parts=("text", "", "")),
    )
}
# Keys of the messages in the formats that have some, and what they are called there.
MESSAGE_KEYS = {"chat": ("role", "content"), "sharegpt": ("from", "value")}


@dataclass(frozen=True)
class Layout:
    """A format, with the names that a dataset's `fields` give to its keys."""

    format: Format
    fields: tuple[tuple[str, str], ...] = ()  # the format's key -> the dataset's

    def named(self, key: str) -> str:
        """What the dataset calls the format's key."""
        return self._own.get(key, key)

    @cached_property
    def _own(self) -> dict[str, str]:
        return dict(self.fields)

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The keys that a record may have."""
        return tuple(map(self.named, self.format.keys))

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The keys that a record must have."""
        return tuple(map(self.named, self.format.required))

    @cached_property
    def parts(self) -> tuple[str, str, str]:
        """What a change of a record is told by."""
        first, second, third = map(self.named, self.format.parts)
        return first, second, third


def format_of(keys: Sequence[str], fields: Mapping[str, str] | None = None) -> Format | None:
    """The format that a record with these keys is in: the one of which it has most of the required keys, the first of equals; None where it has none."""
    renamed = {theirs: ours for ours, theirs in (fields or {}).items()}
    ours = {renamed.get(key, key) for key in keys}
    best = max(FORMATS.values(), key=lambda one: len(ours.intersection(one.required)) / len(one.required))
    return best if ours.intersection(best.required) else None


def layout_of_record(value: Mapping[str, Any], fields: Mapping[str, str]) -> Layout | None:
    """The layout that this record is in, with the dataset's own names of keys; None where it has no key of any.

    Messages decide, not what they are called: there are chats under `conversations`, and conversations under `messages`.
    """
    found = format_of(list(value), fields)
    if found is None:
        return None
    other = {"chat": "sharegpt", "sharegpt": "chat"}.get(found.name)
    if other is not None and not fields:
        messages = value.get(found.required[0])
        first = messages[0] if isinstance(messages, list) and messages else None
        if isinstance(first, dict) and not first.keys() & set(MESSAGE_KEYS[found.name]) and first.keys() >= set(MESSAGE_KEYS[other]):
            return Layout(FORMATS[other], ((FORMATS[other].required[0], found.required[0]),))
    return Layout(found, tuple(fields.items()))


def texts_in(value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Each text in a JSON value, keys as well, behind its JSON path, which begins with `at`."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            below = path_below(at, key)
            if isinstance(key, str):
                yield f"the key {below}", key
            yield from texts_in(item, below)


def conversation(messages: Iterable[Mapping[str, Any]]) -> str:
    """Messages in one text, which no other messages have: the role and how long what follows is, then that."""
    return "".join(map(_in_full, messages))


def messages_in(text: str) -> Iterator[dict[str, Any]]:
    """The messages in such a text; those with nothing but a role and a content."""
    place = 0
    while place < len(text):
        end = text.index("\n", place)
        role, length = text[place:end].split(" ")
        place = end + 1 + int(length) + 1
        yield {"role": role, "content": text[end + 1 : place - 1]}


def _in_full(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if len(message) == len(("role", "content")):
        return f"{message['role']} {len(content)}\n{content}\n"
    more = canonical_json({key: value for key, value in message.items() if key not in {"role", "content"}})
    return f"{message['role']} {len(content)} {len(more)}\n{content}\n{more}\n"
