"""The README.md of an adapter on the Hub: what it was made of. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ollamake.records.secrets import masked

_ACTIVE = re.compile(r"[\\`*_{}\[\]()<>#|!~&@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is to be said of an adapter."""

    name: str  # of the model
    base: str  # as the catalog calls it
    base_model: str | None  # its id on the Hub
    base_digest: str | None
    weights: str  # digest of the adapter's weights
    recipe: Mapping[str, Any]  # by the catalog's keys
    is_gguf: bool  # a GGUF LoRA, in the place of a PEFT folder
    is_given: bool  # it was there already: ollamake has checked it, and made nothing of it
    data: Sequence[Mapping[str, Any]]  # name, digest and records of each dataset
    tests: str  # what they came to: `5 tests passed`; empty: not known
    commit: str | None  # of the repo that it was made in
    version: str  # of ollamake


def card(about: About) -> str:
    """The text. Values of JSON are values of YAML: nothing in a name can be anything else than a name."""
    head: dict[str, Any] = {"library_name": "gguf" if about.is_gguf else "peft", "tags": ["lora", "ollamake"]}
    if about.base_model is not None:
        head |= {"base_model": about.base_model, "base_model_relation": "adapter"}  # else the Hub guesses it by the files
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "", f"# {_text(about.name)}", ""]
    made = "checked against its base, and published, by ollamake" if about.is_given else "made by ollamake from a catalog of datasets"
    lines += [f"A LoRA adapter, {made}.", ""]
    facts = {
        "base": about.base,
        "digest of the base": about.base_digest,
        "digest of the weights": about.weights,
        "tests": about.tests,
        "commit": about.commit,
        "published by" if about.is_given else "made by": f"ollamake {about.version}",
    }
    lines += _table("", "", ((key, value) for key, value in facts.items() if value))
    if about.data:
        lines += ["", "## Data", ""]
        lines += _table("dataset", "records", ((str(entry.get("name")), entry.get("records")) for entry in about.data))
    if about.recipe:
        lines += ["", "## Recipe", "", *_table("key", "value", ((key, json.dumps(value)) for key, value in sorted(about.recipe.items())))]
    return "\n".join(lines) + "\n"


def _table(first: str, second: str, rows: Any) -> list[str]:
    return [f"| {first} | {second} |", "|---|---|", *(f"| {_text(key)} | {_text(value)} |" for key, value in rows)]


def _text(value: object) -> str:
    """As it stands, on one line, whatever Markdown, HTML or the Hub would make of it: a link, a mention, a formula. Of a secret its beginning alone."""
    text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in " ".join(masked(str(value)).split()))
    return _ACTIVE.sub(r"\\\g<0>", text)
