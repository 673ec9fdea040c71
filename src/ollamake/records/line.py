"""One line, looked at with care: it is a record, or every fault of it is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ollamake.records.formats import MESSAGE_KEYS, ROLES, SENDERS, Chat, Layout, Pair, Record, Text, format_of, texts_in
from ollamake.records.json_text import StrictDecoder, is_too_deep, is_unicode
from ollamake.records.keys import key_faults, or_format_of
from ollamake.records.order import order_faults
from ollamake.records.quoted import shown, shown_key
from ollamake.records.raw import LONGEST_LINE
from ollamake.records.rules import UNREADABLE, Found
from ollamake.spelling import nearest

BLANK = {"prompt": ("blank-prompt", "write the {}, or delete the line"), "answer": ("blank-answer", "write the {}, or delete the line")}
MESSAGE_EXTRAS = ("name", "tool_calls", "tool_call_id")


def read_value(line: bytes, number: int) -> tuple[Any, list[Found]]:
    """The JSON value of the line and the faults that it has as such; None beside a fault where it has no value."""
    if len(line) > LONGEST_LINE:
        text = f"not JSON: a line of more than {LONGEST_LINE >> 20} MiB"
        return None, [Found("not-json", number, text, "write one JSON object a line: the line ends may be lost")]
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
        return None, [Found("not-utf8", number, f"not UTF-8: {place}", "save the file as UTF-8")]
    decoder = StrictDecoder()
    try:
        value = decoder.decode(text)
    except RecursionError:
        return None, [too_deep(number)]
    except ValueError as error:
        said = "a byte order mark in the midst of the file" if text.startswith("\ufeff") else _said(error)
        return None, [Found("not-json", number, f"not JSON: {said}", "write one whole JSON object a line")]
    if is_too_deep(value):
        return None, [too_deep(number)]
    return value, [Found("duplicate-key", number, f"key {shown_key(key)} stands twice", "keep one of the two") for key in decoder.repeated]


def too_deep(number: int) -> Found:
    """What is said of a line that is nested beyond what can be read."""
    return Found("not-json", number, "not JSON: nested too deep", "write one flat JSON object a line")


def read_line(line: bytes, number: int, layout: Layout) -> tuple[Record | None, list[Found], Any]:
    """The record of the line, all faults of it, and its JSON value. None is the record of a line that can't be one."""
    value, found = read_value(line, number)
    if value is None and found:
        return None, found, None
    record, wrong = read_record(value, number, layout)
    found.extend(wrong)
    return record, found, value


def read_record(value: Any, number: int, layout: Layout) -> tuple[Record | None, list[Found]]:
    """The record that a JSON value is, and all faults of it."""
    if not isinstance(value, dict):
        example = ", ".join(f'"{key}": "..."' for key in layout.required)
        fix = f"write {{{example}}}"
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            fix += ", or let the file's name end with .json where it is one array"
        return None, [Found("not-an-object", number, f"not an object: {shown(value)}", fix)]
    if not any(key in value for key in layout.required):
        other = format_of(list(value), dict(layout.fields))
        if other is not None:
            text = f"a record of format {other.name}; the dataset's are {layout.format.name}"
            return None, [Found("mixed-formats", number, text, "write it like the others, or put it into a dataset of its own")]
    found = list(key_faults(value, number, layout))
    values = {key: value.get(layout.named(key)) for key in layout.format.keys}
    if layout.format.name in MESSAGE_KEYS:
        found.extend(_conversation_faults(values, value, number, layout))
    else:
        found.extend(_text_faults(values, value, number, layout))
    if any(one.rule in UNREADABLE for one in found):
        return None, found
    return _record(values, number, layout), found


def unread(value: Mapping[str, Any], layout: Layout) -> Iterator[tuple[str, str]]:
    """Each text of a record that no model reads, behind its JSON path: what stands in keys that the format does not have."""
    yield from texts_in({key: item for key, item in value.items() if key not in layout.known}, "$")
    if layout.format.name in MESSAGE_KEYS:
        name = layout.named(layout.format.required[0])
        known = (*map(layout.named, MESSAGE_KEYS[layout.format.name]), *MESSAGE_EXTRAS)
        for number, message in enumerate(value[name]):
            yield from texts_in({key: item for key, item in message.items() if key not in known}, f"$.{name}[{number}]")


def _record(values: Mapping[str, Any], number: int, layout: Layout) -> Record:
    name = layout.format.name
    if name == "alpaca":
        return Pair(values["instruction"], values["input"] or "", values["output"], number)
    if name == "prompt-completion":
        return Pair(values["prompt"], "", values["completion"], number)
    if name == "text":
        return Text(values["text"], number)
    tools = values["tools"] or ()
    messages = tuple(_message(item, layout) for item in values[layout.format.required[0]])
    if name == "sharegpt":
        tools = StrictDecoder().decode(tools) if isinstance(tools, str) else tools
        system = values["system"]
        messages = (*([{"role": "system", "content": system}] if system else []), *messages)
    return Chat(messages, tuple(tools), number)


def _message(item: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    role, content = (item.get(layout.named(key)) for key in MESSAGE_KEYS[layout.format.name])
    more = {key: item[key] for key in MESSAGE_EXTRAS if item.get(key)}  # an empty list calls no tool
    return {"role": SENDERS[str(role)] if layout.format.name == "sharegpt" else role, "content": content or "", **more}


def _text_faults(values: Mapping[str, Any], value: Mapping[str, Any], number: int, layout: Layout) -> Iterator[Found]:
    for key, text in values.items():
        name = layout.named(key)
        if name not in value or (text is None and key in layout.format.optional):
            continue
        answers = key in {"output", "completion"}
        yield from _content_faults(text, name, number, blank=None if key in layout.format.optional else "answer" if answers else "prompt")


def _content_faults(text: Any, name: str, number: int, *, blank: str | None) -> Iterator[Found]:
    """The faults of one text; `blank` is what it is where it may not be blank."""
    if not isinstance(text, str):
        fix = "put it in quotes" if isinstance(text, (int, float)) else "write one text"
        yield Found("wrong-type", number, f"{name} is not a text: {shown(text)}", fix)
    elif blank is not None and not text.strip():
        rule, fix = BLANK[blank]
        yield Found(rule, number, f"blank {name}", fix.format(name))
    elif not is_unicode(text):
        yield Found("not-unicode", number, f"{name} has half of a surrogate pair: {shown(text)}", "write the character itself")


def _conversation_faults(values: Mapping[str, Any], value: Mapping[str, Any], number: int, layout: Layout) -> Iterator[Found]:
    name = layout.named(layout.format.required[0])
    messages = values[layout.format.required[0]]
    yield from _tools_faults(values.get("tools"), number, layout)
    if values.get("system") is not None:
        yield from _content_faults(values["system"], layout.named("system"), number, blank=None)
    if name not in value:
        return
    if not isinstance(messages, list):
        yield Found("wrong-type", number, f"{name} is not a list: {shown(messages)}", "write a list of messages")
        return
    roles: list[str] = []
    faulty = False
    for index, message in enumerate(messages):
        faults = list(_message_faults(message, f"{name}[{index}]", number, layout))
        yield from faults
        faulty = faulty or any(one.rule in {"wrong-type", "missing-key", "role-order"} for one in faults)
        if not faulty:
            sender = message[layout.named(MESSAGE_KEYS[layout.format.name][0])]
            roles.append(SENDERS[sender] if layout.format.name == "sharegpt" else sender)
    if not faulty:
        if values.get("system") and roles[:1] == ["system"]:
            yield Found("role-order", number, f"{name}[0]: a system prompt beside {layout.named('system')!r}", "keep one of the two")
        else:
            yield from order_faults(roles, name, number)


def _message_faults(message: Any, at: str, number: int, layout: Layout) -> Iterator[Found]:
    who, what = (layout.named(key) for key in MESSAGE_KEYS[layout.format.name])
    if not isinstance(message, dict):
        yield Found("wrong-type", number, f"{at} is not an object: {shown(message)}", f'write {{"{who}": "...", "{what}": "..."}}')
        return
    known = (who, what, *MESSAGE_EXTRAS)
    for key in message:
        if key not in known:
            yield Found("unknown-key", number, f"{at}: unknown key {shown_key(key)}", nearest(key, known))
    calls = bool(message.get("tool_calls"))
    for key in (who,) if calls else (who, what):
        if key not in message:
            yield Found("missing-key", number, f"{at}: missing key {key!r}", f"add {key!r} to the message{or_format_of(message, layout)}")
    role, content = message.get(who), message.get(what)
    names = tuple(SENDERS) if layout.format.name == "sharegpt" else ROLES
    if who in message and role not in names:
        fix = nearest(role, names) if isinstance(role, str) else "write one of " + ", ".join(names)
        yield Found("role-order", number, f"{at}: {who} {shown(role)} is not known", fix)
    if what in message and not (content is None and calls):
        blank = {"user": "prompt", "assistant": "answer"}.get(SENDERS.get(role, "") if isinstance(role, str) else "")
        yield from _content_faults(content, f"{at}.{what}", number, blank=None if calls else blank)
    yield from _extra_faults(message, at, number)


def _extra_faults(message: Mapping[str, Any], at: str, number: int) -> Iterator[Found]:
    """The faults of what else a message may have."""
    for key, kind, article in (("name", str, "a text"), ("tool_call_id", str, "a text"), ("tool_calls", list, "a list")):
        value = message.get(key)
        if value is not None and not isinstance(value, kind):
            yield Found("wrong-type", number, f"{at}.{key} is not {article}: {shown(value)}", f"write {article}")
        elif key == "tool_calls" and value and not all(isinstance(call, dict) for call in value):
            yield Found("wrong-type", number, f"{at}.{key} is not a list of objects: {shown(value)}", "write an object for each call")
        elif value is not None and not is_unicode(value):
            yield Found("not-unicode", number, f"{at}.{key} has half of a surrogate pair", "write the character itself")


def _tools_faults(tools: Any, number: int, layout: Layout) -> Iterator[Found]:
    name, fix = layout.named("tools"), "write a list of JSON Schemas"
    if layout.format.name == "sharegpt" and isinstance(tools, str):
        try:
            tools = StrictDecoder().decode(tools) if tools else None
        except (ValueError, RecursionError):
            yield Found("wrong-type", number, f"{name} is not JSON: {shown(tools)}", fix)
            return
    if tools is None:
        return
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        yield Found("wrong-type", number, f"{name} is not a list of objects: {shown(tools)}", fix)
    elif not is_unicode(tools):
        yield Found("not-unicode", number, f"{name} has half of a surrogate pair", "write the character itself")


def _said(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)
