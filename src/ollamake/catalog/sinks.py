"""`sinks:` of a catalog -> what is told of trainings, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ollamake.catalog.caching import is_remote, wrong_with_url
from ollamake.catalog.outside import SinkPlace
from ollamake.catalog.values import KeyPath
from ollamake.errors import Mark


def sinks_of(said: Mapping[str, Any], mark: Callable[[KeyPath], Mark], fault: Callable[[KeyPath, str, str], None]) -> tuple[SinkPlace, ...]:
    """The sinks that `sinks:` says, in their order; `fault` is told what is wrong."""
    for name, options in said.items():
        for key, text, fix in _wrong_with(options):
            fault(("sinks", name, key), f"sinks.{name}.{key}: {text}", fix)
    return tuple(SinkPlace(name=name, options=dict(options), mark=mark(("sinks", name))) for name, options in said.items())


def _wrong_with(options: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Key, what is wrong, what to do: no url may hold a secret, whichever sink it is of."""
    for key, value in options.items():
        if isinstance(value, str) and is_remote(value) and not value.startswith("sqlite:"):
            yield from ((key, text, fix) for text, fix in wrong_with_url(value))
