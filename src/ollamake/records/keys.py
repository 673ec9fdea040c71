"""Which keys a record has: those that its format does not know, those that are missing, and what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ollamake.records.formats import FORMATS, MESSAGE_KEYS, Layout
from ollamake.records.quoted import shown_key
from ollamake.records.rules import Found
from ollamake.spelling import closest, nearest

OTHER_NAMES = {  # of keys, in the datasets that people have
    "instruction": ("prompt", "question", "query", "problem"),
    "output": ("response", "answer", "completion", "target", "solution", "chosen"),
    "prompt": ("instruction", "question", "query", "problem", "input"),
    "completion": ("response", "answer", "output", "target", "solution", "chosen"),
    "text": ("content",),
}


def key_faults(value: Mapping[str, Any], number: int, layout: Layout) -> Iterator[Found]:
    """The faults of a record's keys."""
    missing = {ours: _called(ours, value, layout) for ours in layout.format.required if layout.named(ours) not in value}
    for key in value:
        if key not in layout.known:
            yield Found("unknown-key", number, f"unknown key {shown_key(key)}", _fix_of_unknown(key, value[key], missing, layout))
    for ours, theirs in missing.items():
        name = layout.named(ours)
        yield Found("missing-key", number, f"missing key {name!r}", f"add {name!r} to the record{_or_renamed(ours, theirs, value)}")


def or_format_of(message: Mapping[str, Any], layout: Layout) -> str:
    """What to say to the catalog, where a message is plainly one of the other format that has some."""
    (other,) = MESSAGE_KEYS.keys() - {layout.format.name}
    if not message.keys() >= set(MESSAGE_KEYS[other]):
        return ""
    return f", or write `format: {other}` and `fields: {{{FORMATS[other].required[0]}: {layout.required[0]}}}` into the dataset"


def _called(ours: str, value: Mapping[str, Any], layout: Layout) -> str | None:
    """What the record seems to call the format's key."""
    return next((name for name in OTHER_NAMES.get(ours, ()) if isinstance(value.get(name), str) and name not in layout.known), None)


def _or_renamed(ours: str, theirs: str | None, value: Mapping[str, Any]) -> str:
    if theirs is not None:
        return f", or write `fields: {{{ours}: {theirs}}}` into the dataset"
    if ours == "instruction" and {"input", "output"} <= value.keys():
        return ", or write `format: prompt-completion` and `fields: {prompt: input, completion: output}` into the dataset"
    return ""


def _fix_of_unknown(key: str, value: Any, missing: Mapping[str, str | None], layout: Layout) -> str:
    """What to do about a key that the format does not know; `missing` are the format's keys that the record has not, and what it seems to call them."""
    renamed = next((ours for ours, theirs in missing.items() if theirs == key), None)
    if renamed is not None:
        return f"call it {layout.named(renamed)!r}{_or_renamed(renamed, key, {})}"
    if missing and isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        name = next((name for name, keys in MESSAGE_KEYS.items() if value[0].keys() >= set(keys)), None)
        if name is None:
            return f"write the objects in {shown_key(key)} one a line"
        return f"where they are the messages, write `format: {name}` and `fields: {{{FORMATS[name].required[0]}: {key}}}` into the dataset"
    fix = nearest(key, layout.known)
    return fix if closest(key, layout.known) else f"{fix}; where all may stay as it is, write `rules: {{unknown-key: off}}` into the dataset"
