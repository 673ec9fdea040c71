"""Make for fine-tuned Ollama models. A dodo.py imports these two names, and nothing else is public."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

DOIT_CONFIG: dict[str, Any]


def __getattr__(name: str) -> Any:
    """DOIT_CONFIG, made when it is asked for: a process that checks records or trains has no use for doit, which takes half of its start."""
    if name != "DOIT_CONFIG":
        msg = f"module 'ollamake' has no attribute {name!r}"
        raise AttributeError(msg)
    from ollamake.state.digests import ContentChecker

    return {"backend": "models.lock", "check_file_uptodate": ContentChecker, "dep_file": "models.lock", "reporter": "ollamake"}


def tasks_from(path: str | os.PathLike[str] = "models.yaml") -> Iterator[dict[str, Any]]:
    """The doit tasks of every step of a catalog; for a task creator of dodo.py. Raises doit's InvalidDodoFile.

    A second catalog is yielded by the same task creator: doit wants each group of tasks from one.
    Where everything is asked for, and the seal of the last build still holds, there is nothing to do for any of them: none is made then.
    """
    from ollamake.call import current, groups

    catalog = os.path.relpath(path).replace(os.sep, "/")  # the lock names no place of a machine
    if not current().loads:
        current().named.append(catalog)
        return
    if current().is_whole:
        from ollamake.seal import sealed

        seal = sealed(catalog)
        if seal is not None:
            current().seals[catalog] = seal
            yield from groups(catalog, seal.stages)
            return
    from ollamake.tasks import tasks_of

    yield from tasks_of(catalog)


__all__ = ["DOIT_CONFIG", "tasks_from"]
