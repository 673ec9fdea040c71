"""The engine that trains a model."""

from __future__ import annotations

from ollamake.engines.local import Local
from ollamake.engines.port import Engine


def engine_of() -> Engine:
    """The engine for a training."""
    return Local()
