"""Whether a trainer's packages are there, and new enough."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ollamake.trainers.environment import Environment


def install(environment: Environment, needs: Mapping[str, str], *packages: str) -> str | None:
    """The command that installs `packages`, where one of `needs` (name -> oldest version) is not there or is older; else None."""
    there = environment.versions(needs)
    if all(name in there and _numbers(there[name]) >= _numbers(oldest) for name, oldest in needs.items()):
        return None
    return environment.pip(*packages)


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13, 0). A release candidate counts as its release."""
    return tuple(map(int, re.match(r"\d+(?:\.\d+)*", version)[0].split("."))) if re.match(r"\d", version) else ()  # type: ignore[index]  # it matches
