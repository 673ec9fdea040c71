"""Bases that Ollama holds -> their GGUFs, found in its folder of models on this machine. Standard library alone, and no server is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ollamake.catalog import Base, Catalog, Model
from ollamake.catalog.held import HeldName, held_name, not_found_yet
from ollamake.digest import digest_bytes
from ollamake.folders import cache_folder
from ollamake.ollama.embedded import models_folder

_KIND = "application/vnd.ollama.image."  # of a layer
_SYSTEMS = Path("/usr/share/ollama/.ollama/models")  # where the Linux package has the server keep them


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What Ollama's folder has of a model."""

    gguf: str
    manifest: tuple[str, str] | None = None  # file and digest
    template: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lacks: tuple[str, str] | None = None  # why it can't be a base, and what to do


def with_held_bases(catalog: Catalog) -> Catalog:
    """The catalog, with the path of the GGUF of each base that Ollama holds, as far as it is there.

    Where a model says no template, it has the one that its base has in Ollama: a GGUF that is made of the base's weights alone would be served without.
    So it is with parameters, of which the ends of an answer (`stop`) are some.
    """
    bases = {model.base.name: model.base for model in catalog.models if model.base.ollama is not None}
    if not bases:
        return catalog
    found = {name: find(base.ollama or "") for name, base in bases.items()}
    models = tuple(_on(model, found[model.base.name]) if model.base.name in found else model for model in catalog.models)
    return replace(catalog, models=models)


def with_held_base(model: Model) -> Model:
    """The same of one model."""
    return model if model.base.ollama is None else _on(model, find(model.base.ollama))


def _on(model: Model, found: Found) -> Model:
    base: Base = replace(model.base, gguf=found.gguf, manifest=found.manifest, lacks=found.lacks)
    serve = replace(
        model.serve,
        template=found.template if model.serve.template is None else model.serve.template,
        parameters={**found.parameters, **model.serve.parameters},
    )
    return replace(model, base=base, serve=serve)


def folders() -> tuple[Path, ...]:
    """Where an Ollama of this machine may keep its models, in the order in which they are looked through."""
    given = os.environ.get("OLLAMA_MODELS")
    found = ([Path(given)] if given else []) + [Path.home() / ".ollama/models", _SYSTEMS, models_folder(cache_folder())]
    return tuple(dict.fromkeys(found))


def find(said: str) -> Found:
    """What the first folder that has this model has of it."""
    name, places = held_name(said), folders()
    assert name is not None  # the catalog was checked
    looked = [_look(said, name, folder) for folder in places]
    there = next((found for found in looked if isinstance(found, Found)), None)
    if there is not None:
        return there
    unreadable = next((error for error in looked if isinstance(error, OSError)), None)
    if unreadable is not None:
        why = f"{said} was looked for in Ollama's folder, and {unreadable.filename} can't be read: {unreadable.strerror}"
        return _lacking(said, why, "give yourself the right to read it, or set $OLLAMA_MODELS to the folder that your Ollama has its models in")
    why = f"Ollama has no {said} on this machine (looked in {', '.join(map(str, places))})"
    return _lacking(said, why, f"`ollama pull {said}`; or set $OLLAMA_MODELS to the folder that your Ollama has its models in")


def _look(said: str, name: HeldName, folder: Path) -> Found | OSError | None:
    """What this folder has of the model; None where it has none."""
    try:
        manifest = _manifest(folder, name)
        return None if manifest is None else _read(said, folder, manifest)
    except OSError as error:
        return error


def _lacking(said: str, why: str, fix: str, manifest: tuple[str, str] | None = None) -> Found:
    return Found(gguf=not_found_yet(said), lacks=(why, fix), manifest=manifest)


def _manifest(folder: Path, name: HeldName) -> Path | None:
    """The file that says what the model is made of; names compare without case, as Ollama has them. Raises OSError where it may not be looked for."""
    at = folder / "manifests"
    for part in name.parts:
        below = at / part
        try:
            if not os.path.lexists(below):
                below = next(at / other for other in os.listdir(at) if other.casefold() == part.casefold())
        except (FileNotFoundError, NotADirectoryError, StopIteration):
            return None
        at = below
    return at


def _read(said: str, folder: Path, path: Path) -> Found:
    """What the manifest names. Raises OSError where it, or a small layer, can't be read."""
    content = path.read_bytes()
    manifest = str(path), digest_bytes(content)
    again = f"`ollama pull {said}` again"
    try:
        layers = {kind: list(_layers(json.loads(content), kind)) for kind in ("model", "adapter", "template", "params")}
    except (ValueError, TypeError, KeyError, AttributeError):
        return _lacking(said, f"{path} is no manifest of Ollama's, or not whole", again, manifest)
    if layers["adapter"]:
        fix = f"name the model that it was made from: `ollama show {said} --modelfile` says which"
        return _lacking(said, f"{said} in Ollama has an adapter of its own already", fix, manifest)
    if len(layers["model"]) > 1:
        fix = "put its parts together with llama.cpp's `llama-gguf-split --merge`, and name that file as `gguf`"
        return _lacking(said, f"{said} in Ollama is split into {len(layers['model'])} files, and a base is one GGUF", fix, manifest)
    if not layers["model"]:
        return _lacking(said, f"{said} in Ollama holds no GGUF", "name a model that is one", manifest)
    (gguf,) = (folder / "blobs" / digest for digest in layers["model"])
    if not os.path.isfile(gguf):
        return _lacking(said, f"{said} is in Ollama without its weights: no such file: {gguf}", again, manifest)
    with gguf.open("rb"):  # says now that it may not be read
        pass
    try:
        template = "".join((folder / "blobs" / digest).read_text(encoding="utf-8") for digest in layers["template"][-1:])
        given = [json.loads((folder / "blobs" / digest).read_bytes()) for digest in layers["params"][-1:]]
    except (FileNotFoundError, ValueError):
        return _lacking(said, f"{said} is in Ollama without its template or parameters", again, manifest)
    parameters = next((one for one in given if isinstance(one, dict)), {})
    return Found(gguf=str(gguf), manifest=manifest, template=template or None, parameters=parameters)


def _layers(manifest: Any, kind: str) -> Iterator[str]:
    """The names of the files of the layers of this kind."""
    for layer in manifest["layers"] or ():
        if layer["mediaType"] == f"{_KIND}{kind}":
            yield str(layer["digest"]).replace(":", "-")
