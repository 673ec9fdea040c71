"""The names of models in Ollama, as a base says one in the place of a GGUF."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"
_NAME = re.compile(rf"(?:(?:(?P<host>{_PART}(?::[0-9]+)?)/)?(?P<namespace>{_PART})/)?(?P<model>{_PART})(?::(?P<tag>{_PART}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldName:
    """The name of a model in Ollama, whole."""

    host: str  # of the registry
    namespace: str
    model: str
    tag: str

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """From the registry down."""
        return self.host, self.namespace, self.model, self.tag


def held_name(said: str) -> HeldName | None:
    """What `llama3.2:3b` means; None where no model of Ollama's can be called so."""
    found = _NAME.fullmatch(said)
    if found is None:
        return None
    return HeldName(
        host=found["host"] or "registry.ollama.ai",
        namespace=found["namespace"] or "library",
        model=found["model"],
        tag=found["tag"] or "latest",
    )


def not_found_yet(said: str) -> str:
    """What stands in the place of the path of the model's GGUF until that is looked for, and where it is not there."""
    return f"ollama:{said}"


def wrong_with_base(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with where a base says that its GGUF is: the key, or nothing where it is none; text, and what to do."""
    if "gguf" in entry and "ollama" in entry:
        yield "ollama", "gguf and ollama both say where its GGUF is", "keep one of the two"
    elif "gguf" not in entry and "ollama" not in entry:
        yield "", "nothing says where its GGUF is", "add `gguf: PATH`, or `ollama: NAME` of a model that Ollama has"
    if "ollama" in entry and held_name(entry["ollama"]) is None:
        yield "ollama", f"ollama: {entry['ollama']!r} can't be a model in Ollama", "write it as `ollama list` does: name, name:tag or user/name:tag"
