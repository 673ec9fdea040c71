"""A recipe of ollama-forge -> entries of a catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ollamake.catalog.values import KeyPath
from ollamake.errors import Fault, FaultyFileError, Mark
from ollamake.importers.entries import (
    PARAMETERS,
    Imported,
    Note,
    Source,
    base_in_file,
    base_in_ollama,
    fits,
    name_of,
    not_carried,
    served_model,
)

SOURCES = ("base", "gguf", "hf_repo")
SAMPLING = ("temperature", "num_ctx", "top_p", "repeat_penalty")
VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}|\$\{(\w+)\}")
WHY_NOT = {
    "template_from": "the template is the one that Ollama finds for the base; serve.template sets another",
    "quant": "the base is used as it is",
    "quantize": "the base is used as it is",
    "revision": "the base is the file that is there",
}


def is_recipe(value: Any) -> bool:
    """Has the mapping what a recipe must have?"""
    return isinstance(value, dict) and "name" in value and any(value.get(key) for key in SOURCES)


def from_recipe(source: Source, value: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> Imported:
    """The model that a recipe describes. Raises FaultyFileError."""
    variables = value.get("variables") if isinstance(value.get("variables"), dict) else {}
    recipe = {key: _filled_in(said, variables or {}) for key, said in value.items() if key != "variables"}
    name = source.name if source.is_renamed else name_of(str(recipe["name"]))
    kind = next((key for key in SOURCES if recipe.get(key)), None)
    if kind is None:
        empty = next(key for key in SOURCES if value.get(key))
        text = f"{empty}: nothing is left of it when the recipe's variables are in their places"
        raise FaultyFileError([Fault(mark=Mark(source.path, lines[(empty,)]), text=text, fix="write the base's name, or give the variable a value")])
    line = lines[(kind,)]
    notes: list[Note] = []
    if kind == "base":
        base, notes = base_in_ollama(source, line, str(recipe["base"]))
    elif kind == "gguf":
        base = base_in_file(source.here(str(recipe["gguf"])))
    else:
        base = base_in_file(f"bases/{recipe.get('gguf_file') or str(recipe['hf_repo']).rpartition('/')[2] + '.gguf'}")
        ((_, entry),) = base.items()
        notes = [source.note(line, f"{recipe['hf_repo']} is a repo of Hugging Face: fetch its GGUF to {entry['gguf']}")]
    parameters = {key: recipe[key] for key in SAMPLING if key in recipe and fits(PARAMETERS, key, recipe[key])}
    adapter = recipe.get("adapter")
    system = recipe["system"] if isinstance(recipe.get("system"), str) else None
    model, datasets, more = served_model(
        source,
        line,
        name=name,
        base=base,
        adapter=source.here(str(adapter)) if adapter else None,
        system=system,
        serve={"parameters": parameters},
    )
    carried = {"name", "adapter", "gguf_file", kind, *parameters, *(["system"] if system else [])}
    left = ((key, said, lines[(key,)]) for key, said in recipe.items() if key not in carried)
    notes.extend(not_carried(source, left, WHY_NOT, otherwise="there is nothing like it here, or not with this value"))
    return Imported(
        kind="ollama-forge recipe",
        path=source.path,
        name=name,
        base=base,
        datasets=datasets,
        model=model,
        notes=tuple(sorted([*notes, *more], key=lambda note: note.mark)),
    )


def _filled_in(value: Any, variables: Mapping[str, Any]) -> Any:
    """A text with the recipe's own variables in their places; those of the environment stay as they are."""
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: str(variables.get(found[1] or found[2], found[0])), value)
