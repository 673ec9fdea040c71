"""What is asked of a model, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.catalog.expanded import written


@dataclass(frozen=True, slots=True)
class Ask:
    """Messages, the last of them a question, and how it shall be answered. Two that are equal get one answer."""

    messages: tuple[tuple[str, str], ...]  # role, content
    options: tuple[tuple[str, float], ...]  # Ollama's parameters

    @property
    def question(self) -> str:
        """The last message; no value of the environment is in it."""
        return written(self.messages[-1][1])

    def as_messages(self) -> list[dict[str, str]]:
        """As Ollama takes them."""
        return [{"role": role, "content": content} for role, content in self.messages]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came."""

    text: str
    is_cut: bool  # at the most tokens that an answer may have
    seconds: float


def ask(messages: Iterable[Mapping[str, Any]], **options: float) -> Ask:
    """The ask of these messages, {"role": ..., "content": ...} each."""
    return Ask(tuple((message["role"], message["content"]) for message in messages), tuple(sorted(options.items())))
