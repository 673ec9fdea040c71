"""In what a model on a server differs from what the catalog says, where somebody has replaced it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.expanded import told
from ollamake.errors import BuildError
from ollamake.graph import BUILD, LATEST
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.described import blobs_in, other_parameters, parameters_in
from ollamake.stages.served import read_served
from ollamake.stages.system import system_of


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


def _parameters(said: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    for name in other_parameters(said, there):
        yield f"{name}: {_shown(told(said.get(name)))} -> {_shown(there.get(name))}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
