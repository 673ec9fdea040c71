"""In which order, and by which of several processes (`pytest -n`), tests are run."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

# Live modules that are for one process, what lasts longest first. Each other one is by itself for one: what its tests share is made once.
TOGETHER = {
    "builds that train": re.compile("/test_live_(demo|init|promotion|tutorial)"),  # a machine trains one model at a time: they would wait
    "Ray": re.compile("/test_live_ray"),
    "adapters that were taught": re.compile("/test_live_(adapter_path|handed_adapter|retrain)"),
    "tiny models": re.compile("/test_live_(adapters|architectures)"),
}


def pytest_configure() -> None:
    """Each process has its share of the cores: threads of OpenMP wait for one another, and on cores that others have a training takes many times as long."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if count > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))


def together(nodeid: str) -> str:
    """The name of those that a test goes with."""
    module = nodeid.partition("::")[0]
    if "/test_live_" not in module:
        return nodeid
    return next((name for name, modules in TOGETHER.items() if modules.search(module)), module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: what is plainly broken shows in seconds. Then what lasts longest: the rest fills up what is left of the time."""
    places = {name: place for place, name in enumerate(TOGETHER)}

    def key(item: pytest.Item) -> tuple[bool, bool, int]:
        is_live, is_thorough = (item.get_closest_marker(name) is not None for name in ("live", "thorough"))
        return is_live, is_thorough, places.get(together(item.nodeid), len(places))

    items.sort(key=key)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own groups do not reach it with this pytest."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    return Together(config, log)
