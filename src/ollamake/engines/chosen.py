"""The engine that trains a model."""

from __future__ import annotations

import sys

from ollamake.catalog.places import RAY
from ollamake.catalog.places import Engine as Chosen
from ollamake.engines.local import Local
from ollamake.engines.port import Engine


def engine_of(chosen: Chosen) -> Engine:
    """The engine that the catalog names."""
    if chosen.kind == RAY:
        from ollamake.engines.ray import OnRay

        return OnRay(chosen)
    return Local()


def withdraw() -> None:
    """The run stops: what waits for its place on a cluster won't be done."""
    if _RAY in sys.modules:
        sys.modules[_RAY].withdraw()


def close() -> None:
    """End what engines have begun."""
    if _RAY in sys.modules:
        sys.modules[_RAY].close()


_RAY = "ollamake.engines.ray_client"
