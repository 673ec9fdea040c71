"""A JSON Schema in a file of its own."""

from __future__ import annotations

import json
from typing import Any


def schema_in(content: bytes) -> Any:
    """The JSON Schema that this is. Raises ValueError where it is none, with why."""
    import jsonschema  # late: most catalogs have none

    try:
        schema = json.loads(content)
    except ValueError as error:
        msg = f"not JSON: {error}"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = f"not a JSON Schema: {error}"
        raise ValueError(msg) from error
    try:
        kind: Any = jsonschema.validators.validator_for(schema if isinstance(schema, dict) else {}, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:  # of a `$schema` that is no text, or too deep a schema
        msg = f"not a JSON Schema: {error}"
        raise ValueError(msg) from error
    except jsonschema.SchemaError as error:
        msg = f"not a JSON Schema: {error.json_path}: {error.message}"
        raise ValueError(msg) from error
    return schema
