"""Where a model is trained, as a frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENGINES = (LOCAL, RAY) = ("local", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where a model is trained; no part of its recipe."""

    kind: str = "local"  # one of ENGINES
    address: str | None = None  # of a Ray cluster; None: $RAY_ADDRESS, else the one that this machine belongs to
    resources: Mapping[str, float] = field(default_factory=dict)  # that a training takes of a node, by Ray's names
    runtime_env: Mapping[str, Any] = field(default_factory=dict)  # Ray's own: what a node installs and sets before a training
    retries: int = 3  # of a training whose node was lost
    checkpoints: str | None = (
        None  # fsspec url, or path as seen from the working directory: where checkpoints are kept that another node goes on from
    )
