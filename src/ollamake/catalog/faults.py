"""The schema's objections -> faults that name the line, the value and the nearest right spelling."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import validator_for

from ollamake.catalog.kept import SCHEMA
from ollamake.catalog.matrix import BAD_NAME, NAME
from ollamake.catalog.values import KeyPath, mark_of
from ollamake.errors import Fault
from ollamake.spelling import nearest

SHOWN = 200  # characters of a value
_TYPES = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_BAD_NAMES = {f"^{NAME.pattern}$": BAD_NAME, "^[A-Za-z_][A-Za-z0-9_]*$": "use letters, digits and '_', the first no digit"}


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of `models.yaml`."""
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


@cache
def _validator() -> Draft202012Validator:
    """For the schema with each `$ref` replaced by what it means: twice as fast."""
    return Draft202012Validator(_without_refs(schema()))


def _without_refs(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_refs(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_refs(below) for key, below in node.items() if key not in {"$ref", "$defs"}}
    if "$ref" not in node:
        return plain
    meant: Any = schema()
    for part in node["$ref"].removeprefix("#/").split("/"):
        meant = meant[part]
    return {**_without_refs(meant), **plain}


def schema_faults(value: Any, lines: Mapping[KeyPath, int], path: str) -> tuple[list[Fault], set[KeyPath]]:
    """Every fault of the value, and the keys at its top that have one; `()` where the value itself is no catalog."""
    errors = list(_validator().iter_errors(value))
    faults = [fault for error in errors for fault in _faults(error, lines, path)]
    return faults, {tuple(error.absolute_path)[:1] for error in errors if error.absolute_path or error.validator == "type"}


def schemas_of_tests(value: Mapping[str, Any], lines: Mapping[KeyPath, int], path: str) -> Iterator[Fault]:
    """The faults of the JSON Schemas that stand in tests."""
    places: list[tuple[KeyPath, Mapping[str, Any]]] = [(("defaults",), value.get("defaults", {}))]
    places += [(("bases", name, "defaults"), base.get("defaults", {})) for name, base in value.get("bases", {}).items()]
    places += [(("models", name), model) for name, model in value.get("models", {}).items()]
    for at, place in places:
        for index, test in enumerate(place.get("tests", ())):
            wanted = test.get("expect", {}).get("json_schema")
            if isinstance(wanted, dict):
                try:
                    validator_for(wanted, default=Draft202012Validator).check_schema(wanted)
                except (SchemaError, RecursionError, OverflowError) as error:
                    where: KeyPath = (*at, "tests", index, "expect", "json_schema")
                    said = error.message if isinstance(error, SchemaError) else str(error)
                    text = f"{dotted(where)}: no JSON Schema: {_short(said)}"
                    yield Fault(mark=mark_of(where, lines, path), text=text, fix="see https://json-schema.org/understanding-json-schema")


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
    elif error.validator == "pattern" and error.validator_value in _BAD_NAMES:
        place = (*at, value) if "propertyNames" in error.absolute_schema_path else at
        yield Fault(mark=mark_of(place, lines, path), text=f"{prefix}{value!r} can't be a name", fix=_BAD_NAMES[str(error.validator_value)])
    elif error.validator == "required":  # one error for each key that is missing: the key is in the message alone
        key = error.message.partition(" is a required")[0]
        yield Fault(mark=mark_of(at, lines, path), text=f"{prefix}missing key {key}", fix=f"add {key}")
    else:
        text, advice = _value_fault(error, _short(json.dumps(value, ensure_ascii=False)))
        yield Fault(mark=mark_of(at, lines, path), text=f"{prefix}{text}", fix=advice)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _in_brackets(error: ValidationError) -> str | None:
    """What to write for a text where a list is wanted, or a mapping that needs but one key."""
    rule: Any = error.schema
    if error.validator_value == "array":
        return f"write [{error.instance}]"
    needed: Any = rule.get("required", ()) if error.validator_value == "object" else ()
    return f"write {{{needed[0]}: {error.instance}}}" if len(needed) == 1 else _share(error)


def _value_fault(error: ValidationError, shown: str) -> tuple[str, str | None]:
    wanted: Any = error.validator_value
    if error.validator == "type":
        fix = _in_brackets(error) if isinstance(error.instance, str) else _share(error)
        return f"{shown} is not {' or '.join(_TYPES[one] for one in ([wanted] if isinstance(wanted, str) else wanted))}", fix
    if error.validator in {"enum", "const"}:
        choices = [wanted] if error.validator == "const" else wanted
        return f"{shown} is not known", nearest(str(error.instance), map(str, choices))
    if error.validator == "uniqueItems":
        return f"{shown} names something twice", "keep one of the two"
    limits = {"minimum": "below", "exclusiveMinimum": "not above", "maximum": "above"}
    if error.validator in limits:
        return f"{shown} is {limits[str(error.validator)]} {wanted}", _share(error)
    if error.validator == "anyOf":
        return f"{shown} is not what may stand here", str(dict(error.schema).get("description", "")) if isinstance(error.schema, Mapping) else None
    return "it is empty", None


def _share(error: ValidationError) -> str | None:
    """What to write for a percentage, where a number between 0 and 1 may stand."""
    said: Any = error.instance
    rule: Any = error.schema
    percent = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", said) if isinstance(said, str) else None
    value = float(percent[1]) if percent else said
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_percentage = rule.get("maximum") == 1 and is_number and 0 <= value <= 100
    return f"for {value:g} percent, write {value / 100:g}" if is_percentage else None
