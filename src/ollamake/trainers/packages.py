"""Whether a trainer's packages are there, and new enough."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ollamake.trainers.environment import Environment


def install(environment: Environment, needs: Mapping[str, str], *packages: str) -> str | None:
    """The command that installs `packages`, where one of `needs` (name -> oldest version) is not there or is older; else None.

    Where the catalog names no environment, it makes one, called as the first package is: such packages and ollamake's own exclude each other.
    """
    there = environment.versions(needs)
    if all(name in there and _numbers(there[name]) >= _numbers(oldest) for name, oldest in needs.items()):
        return None
    if environment.named is not None:
        return environment.pip(*packages)
    folder = f"envs/{re.split(r'[^A-Za-z0-9-]', packages[0])[0]}"
    return f"{Environment(folder).pip(*packages)}; then write `env: {folder}` into the model's `train:`"


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13, 0). A release candidate counts as its release."""
    return tuple(map(int, re.match(r"\d+(?:\.\d+)*", version)[0].split("."))) if re.match(r"\d", version) else ()  # type: ignore[index]  # it matches
