"""What a catalog names outside of its repo: where trainings are told of, adapters on the Hugging Face Hub, and where models are pushed. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.errors import Mark

HUB = "hf://"
SITE = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkPlace:
    """Something that is told of trainings; decides nothing."""

    name: str  # as an installed package provides it
    options: Mapping[str, Any]  # what the catalog says of it
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAdapter:
    """An adapter in a repo of the Hub, at one commit."""

    repo: str  # OWNER/NAME
    commit: str  # 40 hex digits
    path: str  # in the repo: a folder, a GGUF LoRA; empty: its top folder

    @property
    def said(self) -> str:
        """As the catalog says it."""
        return f"{HUB}{self.repo}@{self.commit}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Where a model is published, when that is asked for."""

    ollama: str | None = None  # its name in a registry, with its tag
    insecure: bool = False  # may that registry be spoken to by http?
    hub: str | None = None  # OWNER/NAME of the repo that gets the adapter
    private: bool = True  # is that repo made private, where it is not there yet?
    mark: Mark

    @property
    def targets(self) -> dict[str, str]:
        """Kind of target -> its name there."""
        return {kind: name for kind, name in (("ollama", self.ollama), ("hub", self.hub)) if name is not None}
