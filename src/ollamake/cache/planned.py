"""What a cache has of the trainings that a plan names: those are taken, and take no time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ollamake.cache.shared import SharedCache
from ollamake.plan import Planned


def with_cache(plans: Iterable[Planned], cache: SharedCache | None) -> list[Planned]:
    """The plans, with what the cache says of them; as they are where it can't be asked. It is asked for nothing where nothing is trained."""
    plans = list(plans)
    wanted = {plan.shared for plan in plans if plan.trains and plan.shared is not None}
    there = cache.there(wanted) if cache is not None and wanted else set()
    return [replace(plan, cached=True, seconds=0.0) if plan.trains and plan.shared in there else plan for plan in plans]
