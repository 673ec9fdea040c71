"""The schema's objections -> faults that name the line, the value and the nearest right spelling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from ollamake.catalog.marked_yaml import KeyPath
from ollamake.errors import Fault, Mark
from ollamake.spelling import nearest

_TYPES = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `models.yaml`."""
    text = files("ollamake.catalog").joinpath("schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def schema_faults(value: Any, lines: Mapping[KeyPath, int], path: str) -> list[Fault]:
    """Every fault of the value, in the order of their lines."""
    errors = Draft202012Validator(schema()).iter_errors(value)
    faults = [fault for error in errors for fault in _faults(error, lines, path)]
    return sorted(faults, key=lambda fault: fault.mark)


def mark_of(at: KeyPath, lines: Mapping[KeyPath, int], path: str) -> Mark:
    """Where this key stands, or the nearest one around it that stands in the file."""
    while at and at not in lines:
        at = at[:-1]
    return Mark(path, lines.get(at, 1))


def dotted(at: Iterable[str | int]) -> str:
    """`models.legal.data[0]`."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _faults(error: ValidationError, lines: Mapping[KeyPath, int], path: str) -> Iterator[Fault]:
    at: KeyPath = tuple(error.absolute_path)
    prefix = f"{dotted(at)}: " if at else ""
    value: Any = error.instance
    if error.validator == "additionalProperties":
        known = dict(error.schema)["properties"] if isinstance(error.schema, Mapping) else {}
        for key in value:
            if key not in known:
                yield Fault(mark=mark_of((*at, key), lines, path), text=f"{prefix}unknown key {key!r}", fix=nearest(key, known))
    elif "propertyNames" in error.absolute_schema_path:
        fix = "use lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit"
        yield Fault(mark=mark_of((*at, value), lines, path), text=f"{prefix}{value!r} can't be a name", fix=fix)
    elif error.validator == "required":  # one error for each key that is missing: the key is in the message alone
        key = error.message.partition(" is a required")[0]
        yield Fault(mark=mark_of(at, lines, path), text=f"{prefix}missing key {key}", fix=f"add {key}")
    else:
        text, advice = _value_fault(error, json.dumps(value, ensure_ascii=False))
        yield Fault(mark=mark_of(at, lines, path), text=f"{prefix}{text}", fix=advice)


def _value_fault(error: ValidationError, shown: str) -> tuple[str, str | None]:
    wanted: Any = error.validator_value
    if error.validator == "type":
        fix = f"write [{error.instance}]" if wanted == "array" and isinstance(error.instance, str) else None
        return f"{shown} is not {_TYPES[wanted]}", fix
    if error.validator in {"enum", "const"}:
        choices = [wanted] if error.validator == "const" else wanted
        return f"{shown} is not known", nearest(str(error.instance), map(str, choices))
    if error.validator == "uniqueItems":
        return f"{shown} names something twice", "keep one of the two"
    limits = {"minimum": "below", "exclusiveMinimum": "not above", "maximum": "above"}
    if error.validator in limits:
        return f"{shown} is {limits[str(error.validator)]} {wanted}", None
    return "it is empty", None
