"""What an importer makes of a file: entries of a catalog, and notes on what they do not say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from ollamake.catalog.faults import schema
from ollamake.errors import Mark

PARAMETERS = "serve/properties/parameters"  # where the schema has Ollama's parameters; `train` is where it has those of a training
GET_GGUF = "`ollama show --modelfile {}` names its GGUF behind FROM: copy that to {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a file says and the entries do not."""

    mark: Mark
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One model, with the base and the datasets that it needs, as a catalog has them."""

    kind: str  # of the file that it comes from; empty where the entries say all that there is to say
    path: str
    name: str
    base: Mapping[str, Mapping[str, Any]]  # one, by its name
    datasets: Mapping[str, Mapping[str, Any]]
    model: Mapping[str, Any]
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to import."""

    path: str
    text: str
    name: str  # that the model gets, where the file has none of its own
    folder: str  # of the catalog, which its paths are relative to
    is_renamed: bool = False  # is the name asked for, whatever the file says?

    def beside(self, path: str) -> str:
        """A path that is relative to the file, or to `~`, the user's home, as the catalog has it."""
        whole = os.path.expanduser(path) if path == "~" or path.startswith("~/") else path
        return self.here(os.path.join(os.path.dirname(self.path), whole))

    def here(self, path: str) -> str:
        """A path that is relative to the working directory, as the catalog has it."""
        return here(path, self.folder)

    def note(self, line: int, text: str) -> Note:
        """A note on a line of the file."""
        return Note(mark=Mark(self.path, line), text=text)


def here(path: str, folder: str) -> str:
    """A path that is relative to the working directory, as a catalog in that folder has it."""
    return (path if os.path.isabs(path) else os.path.relpath(path or ".", folder or ".")).replace(os.sep, "/")


def name_of(text: str) -> str:
    """The text as a name in the catalog."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower().removesuffix(":latest")).strip("-._")[:80] or "model"


def fits(place: str, key: str, value: Any) -> bool:
    """Does the catalog's schema take this value of this key there?"""
    whole = schema()
    node = whole["$defs"]
    for part in place.split("/"):
        node = node[part]
    known = node["properties"]
    return key in known and Draft202012Validator({**known[key], "$defs": whole["$defs"]}).is_valid(value)


def not_carried(
    source: Source, said: Iterable[tuple[str, Any, int]], why_not: Mapping[str, str], *, otherwise: str = "there is nothing like it here"
) -> Iterator[Note]:
    """Notes on what is said and has no place in a catalog: key, value and line of each. What is empty, off or 0 says nothing."""
    for key, value, line in said:
        if value not in (None, False, "", 0, [], {}):
            yield source.note(line, f"{key}: {why_not.get(key, otherwise)}")


def base_in_ollama(source: Source, line: int, name: str) -> tuple[dict[str, dict[str, Any]], list[Note]]:
    """The base that is a model in Ollama."""
    gguf = f"bases/{name_of(name)}.gguf"
    return {name_of(name): {"gguf": gguf}}, [source.note(line, f"{name} is a model in Ollama. {GET_GGUF.format(name, gguf)}")]


def base_in_file(path: str) -> dict[str, dict[str, Any]]:
    """The base that is a GGUF."""
    return {name_of(os.path.basename(path).removesuffix(".gguf")): {"gguf": path}}


def served_model(
    source: Source,
    line: int,
    *,
    name: str,
    base: Iterable[str],
    adapter: str | None,
    system: str | None,
    serve: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[Note]]:
    """The entry of a model of which it is known how it is served, and the dataset that it is to be trained on where it has no adapter."""
    (base_name,) = base
    served = {key: value for key, value in serve.items() if value and str(value).strip()}
    said = {"system": system} if system and system.strip() else {}
    if adapter is not None:
        whole = {**said, **served}
        return {"base": base_name, "adapter": adapter, **({"serve": whole} if whole else {})}, {}, []
    files = f"datasets/{name}.jsonl"
    note = source.note(line, f"no adapter that can be taken: write the records that the model is to be trained on into {files}")
    train = {"train": said} if said else {}  # it is served with it too
    return {"base": base_name, "data": [name], **train, **({"serve": served} if served else {})}, {name: {"files": [files]}}, [note]
