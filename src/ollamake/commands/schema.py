"""`doit schema`: the JSON Schema of `models.yaml`, for editors."""

from __future__ import annotations

from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog.kept import SCHEMA
from ollamake.commands.options import WithOptions
from ollamake.events import SCHEMA as EVENTS


class SchemaCommand(WithOptions):
    """Print the JSON Schema."""

    name = "schema"
    doc_purpose = "print the JSON Schema of models.yaml, for editors"
    doc_usage = ""
    doc_description = "It is what the catalog is checked by. `doit schema > models.schema.json`, and editors complete and check models.yaml by it."
    cmd_options = ({"name": "events", "long": "events", "type": bool, "default": False, "help": "that of the lines of `doit --json` instead"},)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Print it. Raises doit's InvalidCommand."""
        if pos_args:
            msg = f"schema takes no argument: {pos_args[0]!r}"
            raise InvalidCommand(msg)
        print((EVENTS if opt_values["events"] else SCHEMA).read_text(encoding="utf-8"), end="")
        return 0
