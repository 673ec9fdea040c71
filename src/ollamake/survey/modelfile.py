"""The Modelfile of what a build would create in Ollama."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ollamake.catalog import Base, Model
from ollamake.catalog.expanded import Expanded, told, written
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.stages.served import Served, read_served


def modelfile(model: Model, package: Step) -> str | None:
    """Its text; None where there are no served weights yet. Values of the environment stand in it as the catalog writes them."""
    served = read_served(Path(package.writes[0]))
    return None if served is None else "\n".join(_lines(model, served)) + "\n"


def _lines(model: Model, served: Served) -> Iterator[str]:
    files = [os.path.relpath(path).replace(os.sep, "/") for path, _ in served.files]
    if served.kind == "adapter":
        yield f"FROM {_base(model.base)}"
        yield f"ADAPTER {files[0]}"
    else:
        yield from (f"FROM {file}" for file in files)
    if model.serve.template is not None:
        yield f"TEMPLATE {_quoted(_shown(model.serve.template))}"
    system = _system(model)
    if system is not None:
        yield f"SYSTEM {_quoted(_shown(system))}"
    for name, value in sorted(model.serve.parameters.items()):
        for one in value if isinstance(value, list | tuple) else [value]:
            yield f"PARAMETER {name} {_parameter(told(one))}"


def _base(base: Base) -> str:
    """What is served, by the name that Ollama or the catalog has for it."""
    return base.ollama or written(base.gguf)


def _system(model: Model) -> str | None:
    if model.serve.system is not None:
        return model.serve.system
    path = model.base.gguf
    try:
        stat = os.stat(path)
        return _default_system(path, stat.st_mtime_ns, stat.st_size, model)
    except (BuildError, OSError):
        return None


_known: dict[tuple[str, int, int], str | None] = {}


def _default_system(path: str, modified: int, size: int, model: Model) -> str | None:
    """What the base's own template writes where none is given, read once."""
    from ollamake.stages.system import system_of

    if (path, modified, size) not in _known:
        _known[path, modified, size] = system_of(model)
    return _known[path, modified, size]


def _shown(text: str) -> str:
    return text.written if isinstance(text, Expanded) else text


@cache
def _quoted(text: str) -> str:
    """As Ollama reads it: three quotes around what has lines or quotes."""
    return f'"""{text}"""' if "\n" in text or '"' in text or text != text.strip() else f'"{text}"'


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else str(value)
