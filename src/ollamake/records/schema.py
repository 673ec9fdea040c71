"""A dataset's own JSON Schema, and how records break it, in our words: `$.output: ...`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ollamake.errors import BuildError
from ollamake.records.block import SchemaFaults
from ollamake.records.quoted import shown, shown_key
from ollamake.records.rules import Found
from ollamake.spelling import nearest

if TYPE_CHECKING:
    from jsonschema import ValidationError

TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
LIMITS = {"minimum": "below", "exclusiveMinimum": "not above", "maximum": "above", "exclusiveMaximum": "not below"}
SIZES = {
    "minLength": "shorter than {} characters",
    "maxLength": "longer than {} characters",
    "minItems": "shorter than {} items",
    "maxItems": "longer than {} items",
    "minProperties": "fewer than {} keys",
    "maxProperties": "more than {} keys",
}


def schema_of(schema: Any, whose: str = "the dataset's") -> SchemaFaults | None:
    """What finds the faults of a value by this JSON Schema; None without one. It has been read by read_schema."""
    if schema is None:
        return None
    import jsonschema  # late: most datasets have no schema
    from referencing.exceptions import Unresolvable

    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)

    def faults(value: Any, number: int) -> Sequence[Found]:
        try:
            errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
        except Unresolvable as error:
            msg = f"{whose} JSON Schema refers to {error.ref!r}, which is not in it"
            raise BuildError(msg, fix="write it into the same file, below `$defs`") from error
        except (RecursionError, OverflowError) as error:
            msg = f"line {number} can't be held to {whose} JSON Schema: {error}"
            raise BuildError(msg, fix="look for a `$ref` in it that leads to itself, and for `multipleOf`") from error
        return [Found("schema", number, f"{error.json_path}: {text}", fix) for error in errors for text, fix in _said(error)]

    return faults


def _said(error: ValidationError) -> Iterator[tuple[str, str | None]]:
    wanted: Any = error.validator_value
    rule = str(error.validator)
    if rule == "additionalProperties" and wanted is False:
        schema: Any = error.schema
        known = schema.get("properties", {})
        value: Any = error.instance
        for key in value:
            if key not in known and not any(re.search(pattern, key) for pattern in schema.get("patternProperties", {})):
                yield f"unknown key {shown_key(key)}", nearest(key, known) if known else None
    elif rule == "required":  # one error for each key: which one is in the message alone
        key = error.message.partition(" is a required")[0]
        yield f"missing key {key}", f"add {key}"
    elif rule == "type":
        kinds = " or ".join(TYPES[one] for one in ([wanted] if isinstance(wanted, str) else wanted))
        yield f"{shown(error.instance)} is not {kinds}", None
    elif rule in {"enum", "const"}:
        choices = [wanted] if rule == "const" else wanted
        fix = nearest(error.instance, list(map(str, choices))) if isinstance(error.instance, str) else f"write one of {json.dumps(choices)}"
        yield f"{shown(error.instance)} is not one of those allowed", fix
    elif rule == "pattern":
        yield f"{shown(error.instance)} does not match {wanted!r}", None
    else:
        yield f"{shown(error.instance)} {_breaks(rule, wanted)}", None


def _breaks(rule: str, wanted: Any) -> str:
    if rule in LIMITS:
        return f"is {LIMITS[rule]} {wanted}"
    if rule in SIZES:
        return f"is {SIZES[rule].format(wanted)}"
    return "is not allowed: the schema is `false`" if rule == "None" else f"breaks {rule}: {shown(wanted)}"
