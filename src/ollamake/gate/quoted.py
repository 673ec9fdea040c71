"""Questions and answers as messages quote them: on one line, and not all of what is long."""

from __future__ import annotations

import json

from ollamake.catalog.expanded import written

SHOWN = 160  # characters


def shown(text: str) -> str:
    """The text in quotation marks, its line ends and control characters escaped, and no value of the environment in it."""
    text = written(text)
    cut = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in json.dumps(cut, ensure_ascii=False))
