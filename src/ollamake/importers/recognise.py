"""What kind of file it is that is to be imported: by its content, not by its name."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ollamake.catalog.marked_yaml import parse
from ollamake.catalog.names import taken
from ollamake.errors import BuildError, FaultyFileError
from ollamake.importers.axolotl import from_axolotl, is_axolotl
from ollamake.importers.entries import Imported, Source, name_of
from ollamake.importers.forge import from_recipe, is_recipe
from ollamake.importers.modelfile import from_modelfile, is_modelfile

ENDINGS = ("yaml", "yml", "json")


def imported(path: str, text: str, *, name: str, folder: str) -> Imported:
    """The entries that a file comes to; `name`: that the model gets, or empty; `folder`: of the catalog. Raises BuildError."""
    found = _imported(path, text, name=name, folder=folder)
    if fault := taken(found.name):
        said, fix = fault
        msg = f"{path}: {said}"
        raise BuildError(msg, fix=f"{fix}, with --name")
    return replace(found, base=_escaped(found.base), datasets=_escaped(found.datasets), model=_escaped(found.model))


def _escaped(value: Any) -> Any:
    """The value as a catalog says it, where `${` begins the name of a variable."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _imported(path: str, text: str, *, name: str, folder: str) -> Imported:
    source = Source(path=path, text=text, name=name or default_name(path), folder=folder, is_renamed=bool(name))
    fault: FaultyFileError | None = None
    try:
        value, lines = parse(text, path)  # of YAML, which JSON is too
    except FaultyFileError as error:
        fault, value, lines = error, None, {}
    if is_axolotl(value):
        return from_axolotl(source, value, lines)
    if is_recipe(value):
        return from_recipe(source, value, lines)
    if is_modelfile(text):
        return from_modelfile(source)
    if fault is not None and path.lower().endswith((".yaml", ".yml", ".json")):
        raise fault
    msg = f"{path}: neither an Ollama Modelfile (FROM), nor an Axolotl configuration (base_model), nor an ollama-forge recipe (name, and base, gguf or hf_repo)"
    raise BuildError(msg, fix="name a file of one of these kinds")


def default_name(path: str) -> str:
    """The name that a file gives to its model: `legal` of legal.Modelfile, Modelfile.legal and legal.yml, and of Modelfile in a folder legal."""
    folder, file = os.path.split(os.path.abspath(path))
    parts = file.split(".")
    if parts[-1].lower() in ENDINGS:
        parts.pop()
    return name_of(".".join(part for part in parts if part.lower() != "modelfile") or os.path.basename(folder))
