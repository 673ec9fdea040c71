"""Records as their base reads them: the text that its own chat template writes, for trainers that know neither records nor templates."""

from __future__ import annotations

from ollamake.digest import canonical_json
from ollamake.records.formats import Record, Text
from ollamake.records.text import rendered
from ollamake.records.tokens import Rendering

TEMPLATED = "templated"  # the text format


def templated(record: Record, rendering: Rendering, system: str | None) -> str:
    """A line of JSON: `{"text": ...}`, all of it learnt, the token that ends it included; as plain text where the base has no template.

    Raises BuildError where the template refuses the record, or it can't be said in plain text.
    """
    segments = rendering.segments(record, system)
    if segments is None:  # a base that was never taught to chat
        segments = rendering.segments(Text(rendered(record, "text", system).rstrip("\n")), None) or []
    return canonical_json({"text": "".join(text for text, _ in segments)}) + "\n"
