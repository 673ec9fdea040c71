"""The engine that trains a model."""

from __future__ import annotations

from collections.abc import Sequence

from ollamake.engines.launched import Launched
from ollamake.engines.local import Local
from ollamake.engines.port import Engine


def engine_of(launch: Sequence[str] = ()) -> Engine:
    """The engine for a training; `launch`: the words that run it elsewhere, as the catalog says them."""
    return Launched(launch) if launch else Local()
