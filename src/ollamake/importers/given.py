"""An adapter that is there -> the entry of a model that is served from it, beside a base that the catalog has or gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ollamake.catalog.adapters import is_lora_file, wrong_with_path
from ollamake.catalog.files import Files
from ollamake.catalog.held import not_found_yet
from ollamake.catalog.kept import Kept
from ollamake.catalog.load import load_catalog
from ollamake.catalog.matrix import BAD_NAME, NAME
from ollamake.catalog.outside import HUB
from ollamake.catalog.sources import Sources
from ollamake.catalog.values import Model
from ollamake.errors import BuildError, FaultyFileError
from ollamake.importers.entries import Imported, base_in_file, here
from ollamake.spelling import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a catalog has already."""

    path: Path
    bases: Mapping[str, str]  # name -> path of its GGUF, as seen from the working directory; `ollama:NAME` of one that Ollama holds
    models: Mapping[str, Model]


class Edited(Files):
    """The disk, as it would be with other content in one of its files."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path.as_posix(), text

    def read(self, path: str) -> bytes:
        """The content of a catalog. Raises OSError."""
        return self.text.encode() if path == self.path else super().read(path)


def known(path: Path, trainers: tuple[str, ...]) -> Known:
    """What is in the catalog; one that has no model yet is none that is wrong. Raises BuildError, FaultyFileError where it has faults."""
    if not path.exists():
        msg = f"{path}: no such file"
        raise BuildError(msg, fix="`ollamake init` writes one; or go to the folder of your dodo.py")
    sources = Sources(os.environ, Kept(), Files())
    sources.read(path.as_posix())
    bases = {
        source.prefix + name: source.below(entry["gguf"]) if "gguf" in entry else not_found_yet(entry["ollama"])
        for source in sources.found
        for name, entry in (source.value.get("bases") or {}).items()
        if isinstance(entry, dict) and isinstance(entry.get("gguf", entry.get("ollama")), str)
    }
    try:
        models = load_catalog(path, trainers=trainers, only_looks=True).models
    except FaultyFileError:
        if not sources.found or any(source.value.get("models") for source in sources.found):
            raise
        models = ()
    return Known(path=path, bases=bases, models={model.name: model for model in models})


def given(there: Known, *, name: str, base: str, adapter: str) -> Imported:
    """The model of this name, served from that adapter. `base`: a name, the path of a GGUF, or nothing, where the catalog has one base. Raises BuildError."""
    if not NAME.fullmatch(name):
        msg = f"--name {name!r}: this can't be a name"
        raise BuildError(msg, fix=BAD_NAME)
    if adapter.startswith(HUB):
        msg = f"--adapter {adapter}: an adapter of the Hub is named in the catalog"
        raise BuildError(
            msg, fix=f"write `adapter: {HUB}OWNER/NAME@COMMIT` into the model's entry, then run `doit`; docs/hub.md of ollamake has the rest"
        )
    wrong = wrong_with_path(adapter)
    if wrong is not None:
        msg = f"--adapter: {wrong[0]}"
        raise BuildError(msg, fix=wrong[1])
    if not os.path.exists(adapter):
        msg = f"--adapter {adapter}: no such file or folder"
        raise BuildError(msg, fix="give a PEFT folder, or a GGUF LoRA")
    if os.path.isfile(adapter) and not is_lora_file(adapter):
        msg = f"--adapter {adapter}: a file whose name does not end in .gguf"
        raise BuildError(msg, fix="give a PEFT folder, or a GGUF LoRA under such a name")
    folder = str(there.path.parent)
    base_name, new = _base(there, base, folder)
    entry = {"base": base_name, "adapter": here(adapter, folder)}
    return Imported(kind="", path=adapter, name=name, base=new, datasets={}, model=entry, notes=())


def is_the_same(model: Model, entry: Imported, there: Known) -> bool:
    """Is this model of the catalog, which is not trained, just what the entry says?"""
    if model.adapter is None:
        return False
    wanted = Path(there.path.parent, entry.model["adapter"])
    return not entry.base and model.base.name == entry.model["base"] and os.path.realpath(model.adapter) == os.path.realpath(wanted)


def _base(there: Known, base: str, folder: str) -> tuple[str, dict[str, dict[str, str]]]:
    """The name of the base that is meant, and its entry, where the catalog has none yet."""
    if not base:
        if len(there.bases) != 1:
            listed = ", ".join(sorted(there.bases)) or "none"
            msg = f"which base? {there.path} has {listed}"
            raise BuildError(msg, fix="say it: --base NAME, or --base PATH of a GGUF")
        return next(iter(there.bases)), {}
    if base in there.bases:
        return base, {}
    if not os.path.isfile(base):
        msg = f"--base {base}: no base of {there.path}, and no file"
        raise BuildError(msg, fix=f"{nearest(base, there.bases)}, or give the path of a GGUF")
    for name, gguf in there.bases.items():
        if os.path.realpath(gguf) == os.path.realpath(base):
            return name, {}
    new = base_in_file(here(base, folder))
    (name,) = new
    if name in there.bases:
        msg = f"--base {base}: {there.path} has another base {name!r}, with {there.bases[name]}"
        raise BuildError(msg, fix=f"give it an entry of its own there, under another name, and say --base with that; or mean that one: --base {name}")
    return name, new
