"""YAML text -> plain values, and the line of each of them. Safe: no tags, no duplicate keys, no alias bombs."""

from __future__ import annotations

import re
from math import isfinite
from typing import Any

import yaml

from ollamake.catalog.values import KeyPath
from ollamake.errors import Fault, FaultyFileError, Mark

MOST_VALUES = 500_000  # aliases count each time they are used: a bomb is found before it goes off

LONGEST_NUMBER = 30  # digits

DEEPEST = 50  # values within values
TOO_DEEP = f"nested more than {DEEPEST} deep"

_CORE = "tag:yaml.org,2002:"

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12Loader(_Loader):  # type: ignore[misc]  # the base is chosen at run time: libyaml's where it is built in
    """YAML as people expect it: `2e-4` is a number, `no` and `on` are texts (YAML 1.2, core schema)."""


_Yaml12Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Yaml12Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(f"^(?:{_pattern})$"), [c.strip("\0") for c in _first])
RESOLVERS = _Yaml12Loader.yaml_implicit_resolvers  # what tells a plain text from a number: who writes YAML quotes by them


def parse(text: str, path: str) -> tuple[Any, dict[KeyPath, int]]:
    """The value of this YAML text, and the line (from 1) of every key and item in it. Raises FaultyFileError."""
    loader = _Yaml12Loader(text)
    try:
        node = loader.get_single_node()
    except RecursionError as error:  # of the loader that is Python alone
        raise FaultyFileError([Fault(mark=Mark(path, 1), text=TOO_DEEP)]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(filter(None, (error.context, error.problem)))
        last = max(1, len(text.splitlines()))  # libyaml finds the end of a text on the line behind it
        raise FaultyFileError([Fault(mark=Mark(path, min(last, mark.line + 1) if mark else 1), text=f"not YAML: {problem}")]) from error
    except yaml.YAMLError as error:
        raise FaultyFileError([Fault(mark=Mark(path, 1), text=f"not YAML: {error}")]) from error
    finally:
        loader.dispose()
    if tags := _tags(text, path):
        raise FaultyFileError(tags)
    reader = _Reader(path)
    value = None if node is None else reader.value(node, ())
    if reader.faults:
        raise FaultyFileError(sorted(reader.faults, key=lambda fault: fault.mark))
    return value, reader.lines


def _tags(text: str, path: str) -> list[Fault]:
    """A fault for each tag that is written in this text, which is YAML."""
    if "!" not in text:  # there is none, and mostly this is so
        return []
    fix = "write a plain text, number, list or mapping"
    tokens = [token for token in yaml.scan(text, Loader=_Yaml12Loader) if isinstance(token, yaml.TagToken)]
    names = [f"{_CORE if token.value[0] == '!!' else token.value[0] or ''}{token.value[1]}" for token in tokens]
    return [
        Fault(mark=Mark(path, token.start_mark.line + 1), text=f"tag {name!r} is not allowed", fix=fix)
        for token, name in zip(tokens, names, strict=True)
    ]


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {(): 1}
        self.faults: list[Fault] = []
        self.count = 0
        self.open: set[int] = set()  # nodes that are being read: an alias to one of them has no end

    def fault(self, node: yaml.Node, text: str, fix: str | None = None) -> None:
        self.faults.append(Fault(mark=Mark(self.path, node.start_mark.line + 1), text=text, fix=fix))

    def value(self, node: yaml.Node, at: KeyPath) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        self.count += 1
        if self.count > MOST_VALUES or len(self.open) > DEEPEST or id(node) in self.open:
            many = f"more than {MOST_VALUES} values" if self.count > MOST_VALUES else TOO_DEEP
            message = "aliases that contain themselves" if id(node) in self.open else many
            raise FaultyFileError([Fault(mark=Mark(self.path, node.start_mark.line + 1), text=message)])
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, at)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, at: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_CORE}merge":
                value = self.value(value_node, at)
                for part in value if isinstance(value, list) else [value]:
                    if isinstance(part, dict):
                        merged = {**part, **merged}
                continue
            key = self.text(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self.fault(key_node, "a key that is not a text")
                continue
            place = (*at, key)
            if key in own:
                self.fault(key_node, f"key {key!r} stands twice; the first time in line {self.lines[place]}", fix="keep one of the two")
                continue
            self.lines[place] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, place)
        return {**merged, **own}

    def scalar(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix(_CORE)  # never written: it is what the text looks like
        text: str = node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            if len(text) > LONGEST_NUMBER:
                self.fault(node, f"a number of {len(text)} digits")
                return 0
            return int(text)
        if kind == "float":
            number = float(text)
            if not isfinite(number):
                self.fault(node, f"{text} is beyond what a number can be")
            return number
        return self.text(node)

    def text(self, node: yaml.Node) -> str:
        r"""A text as it stands there. No file can have \0 in its name, nor a program in its arguments."""
        text: str = node.value
        if "\0" in text:
            self.fault(node, "a text with the character \\0 in it", fix="take it out")
        return text
