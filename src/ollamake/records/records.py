"""Records of a JSONL file: every line is a record or has its faults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ollamake.errors import Fault, Mark
from ollamake.spelling import nearest

REQUIRED = ("instruction", "output")
KEYS = ("instruction", "input", "output")
BOM = b"\xef\xbb\xbf"
SHOWN = 60  # characters of a value that a message quotes


@dataclass(frozen=True, slots=True)
class Record:
    """One training example."""

    instruction: str
    input: str  # empty where there is none
    output: str
    line: int = field(default=0, compare=False)  # of its file, from 1

    def as_json(self) -> dict[str, str]:
        """The record's canonical form, in which formatting is gone."""
        return {"instruction": self.instruction, "input": self.input, "output": self.output}


def read_records(content: bytes, path: str) -> tuple[list[Record], list[Fault]]:
    """The records of a file with this content, and its faults in the order of their lines. Blank lines and a byte order mark are nothing."""
    records: list[Record] = []
    faults: list[Fault] = []
    for number, line in enumerate(content.removeprefix(BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        mark = Mark(path, number)
        found = list(_read_line(line, mark))
        faults.extend(item for item in found if isinstance(item, Fault))
        records.extend(item for item in found if isinstance(item, Record))
    if not records and not faults:
        faults.append(Fault(mark=Mark(path, 1), text="no record in the file", fix="write one JSON object a line, or delete the file"))
    return records, faults


def _read_line(line: bytes, mark: Mark) -> Iterator[Record | Fault]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1} of the line is 0x{line[error.start]:02x}"
        yield Fault(mark=mark, text=f"not UTF-8: {place}", fix="save the file as UTF-8")
        return
    repeated: list[str] = []
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, repeated), parse_constant=_refuse)
    except RecursionError:
        yield Fault(mark=mark, text="not JSON: nested too deep", fix="write one flat JSON object a line")
        return
    except ValueError as error:
        yield Fault(mark=mark, text=f"not JSON: {_said(error)}", fix="write one whole JSON object a line")
        return
    if not isinstance(value, dict):
        yield Fault(mark=mark, text=f"not an object: {_shown(value)}", fix='write {"instruction": "...", "output": "..."}')
        return
    faults = [Fault(mark=mark, text=f"key {key!r} stands twice", fix="keep one of the two") for key in repeated]
    faults.extend(_faults(value, mark))
    yield from faults
    if not faults:
        yield Record(instruction=value["instruction"], input=value.get("input") or "", output=value["output"], line=mark.line)


def _faults(value: Mapping[str, Any], mark: Mark) -> Iterator[Fault]:
    unknown = [key for key in value if key not in KEYS]
    for key in unknown:
        yield Fault(mark=mark, text=f"unknown key {key!r}", fix=nearest(key, KEYS))
    for key in REQUIRED:
        if key not in value:
            yield Fault(mark=mark, text=f"missing key {key!r}", fix=f"add {key!r} to the record")
    for key in KEYS:
        if key not in value or (key == "input" and value[key] is None):
            continue
        if not isinstance(value[key], str):
            yield Fault(mark=mark, text=f"{key} is not a text: {_shown(value[key])}", fix="put it in quotes")
        elif key in REQUIRED and not value[key].strip():
            yield Fault(mark=mark, text=f"blank {key}", fix=f"write the {key}, or delete the line")
        elif not _is_unicode(value[key]):
            yield Fault(mark=mark, text=f"{key} has half of a surrogate pair: {_shown(value[key])}", fix="write the character itself")


def _object(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            repeated.append(key)
        value[key] = item
    return value


def _refuse(constant: str) -> None:
    msg = f"{constant} is no JSON number"
    raise ValueError(msg)


def _said(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return str(error)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
