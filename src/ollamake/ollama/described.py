"""A model as it is made, and as a server describes it then."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OF_THE_TEMPLATE = ("stop",)  # parameters that a server takes from the template, where they are not said
_DIGEST = re.compile(r"sha256[-:]([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model as it is created."""

    name: str
    files: tuple[tuple[Path, str], ...]  # GGUF files and digests: the base, merged weights, or the shards of a split GGUF in their order
    adapter: tuple[Path, str] | None  # GGUF LoRA and digest
    system: str | None
    template: str | None
    parameters: Mapping[str, Any]

    @property
    def named_files(self) -> dict[str, str]:
        """The digest of each GGUF by its name on the server: llama.cpp finds the shards of a split GGUF by theirs."""
        count = len(self.files)
        if count == 1:
            return {"model.gguf": self.files[0][1]}
        return {f"model-{number:05}-of-{count:05}.gguf": digest for number, (_, digest) in enumerate(self.files, start=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A model as a server describes it."""

    modelfile: str
    parameters: str  # a line each
    template: str
    system: str


def is_as_made(model: NewModel, shown: Shown, layers: Collection[str]) -> bool:
    """Is the model that is described the one that was made? `layers`: the digests that the server told of while it made it.

    Some versions write weights anew, and keep them under another digest than they were sent with; of shards, they may show one alone. Adapters stay.
    """
    blobs = blobs_in(shown.modelfile)
    adapter = {model.adapter[1]} if model.adapter else set()
    return (
        adapter <= blobs <= {*model.named_files.values(), *adapter, *layers}
        and shown.system.strip() == (model.system or "").strip()
        and (model.template is None or shown.template.strip() == model.template.strip())
        and not list(other_parameters(model.parameters, parameters_in(shown.parameters)))
    )


def digests_in(text: str) -> set[str]:
    """The digests that a server tells of."""
    return {f"sha256:{digest}" for digest in _DIGEST.findall(text)}


def blobs_in(modelfile: str) -> set[str]:
    """The digests of the files that a Modelfile names, as a server shows it."""
    return {f"sha256:{digest}" for digest in re.findall(rf"^(?:FROM|ADAPTER) .*{_DIGEST.pattern}\s*$", modelfile, flags=re.MULTILINE)}


def parameters_in(text: str) -> dict[str, Any]:
    """The parameters as a server shows them: a line each; one that has several values stands in several."""
    found: dict[str, list[Any]] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_value(value.strip()))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def other_parameters(said: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """The names of the parameters that are others on a server than was said, but for those that it takes from the template."""
    for name in sorted({*said, *there}):
        is_of_the_template = name in OF_THE_TEMPLATE and name not in said
        if not is_of_the_template and _as_list(said.get(name)) != _as_list(there.get(name)):
            yield name


def _value(text: str) -> Any:
    """A value as Go writes it: as JSON does, but for some signs in texts, which it writes as Python."""
    with suppress(ValueError):
        return json.loads(text)
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text


def _as_list(value: Any) -> list[Any]:
    """One value and a list of it are the same to Ollama, as are none and an empty list; of numbers, it keeps what a float does."""
    values = list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
    return [float(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in values]
