"""In what a model on a server differs from what the catalog says, where somebody has replaced it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.expanded import told
from ollamake.errors import BuildError
from ollamake.graph import BUILD, LATEST
from ollamake.ollama.client import OllamaServer
from ollamake.stages.served import read_served
from ollamake.stages.system import system_of

OF_THE_TEMPLATE = ("stop",)  # parameters that a server takes from the template, where the catalog does not say them


def differences(server: OllamaServer, model: Model) -> list[str]:
    """What is another than the catalog says: `temperature: 0.2 -> 0.9`, `the weights`. Asks the server once. Raises BuildError."""
    shown = server.shown(f"{model.name}:{LATEST}")
    found = list(_parameters(model.serve.parameters, parameters_in(shown.parameters)))
    if model.serve.template is not None and shown.template.strip() != model.serve.template.strip():
        found.append("the template")
    try:
        if shown.system.strip() != (system_of(model) or "").strip():
            found.append("the system prompt")
    except (BuildError, OSError):  # the base is not here
        pass
    served = read_served(Path(BUILD, model.name, "served.json"))
    if served is not None:
        expected = {digest for _, digest in served.files} | ({served.base} if served.kind == "adapter" else set())
        if blobs_in(shown.modelfile) != expected:
            found.append("the weights")
    return found or ["nothing that the catalog says"]


def blobs_in(modelfile: str) -> set[str]:
    """The digests of the files that a Modelfile names, as a server shows it."""
    return {f"sha256:{digest}" for digest in re.findall(r"^(?:FROM|ADAPTER) .*sha256[-:]([0-9a-f]{64})\s*$", modelfile, flags=re.MULTILINE)}


def parameters_in(text: str) -> dict[str, Any]:
    """The parameters as a server shows them: a line each; one that has several values stands in several."""
    found: dict[str, list[Any]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_value(value.strip()))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parameters(said: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*said, *there}):
        is_of_the_template = name in OF_THE_TEMPLATE and name not in said
        if not is_of_the_template and _as_list(said.get(name)) != _as_list(there.get(name)):
            yield f"{name}: {_shown(told(said.get(name)))} -> {_shown(there.get(name))}"


def _as_list(value: Any) -> list[Any]:
    """One value and a list of it are the same to Ollama."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
