"""An adapter that is there already, as far as the catalog alone can say what it is: the path tells, as the file need not be there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ollamake.catalog.expanded import written
from ollamake.catalog.outside import HUB, SITE, HubAdapter
from ollamake.catalog.pushing import REPO, wrong_with_push

# As files are called that llama.cpp's tools write, and as Ollama keeps them (`ollama show --modelfile`: ADAPTER .../blobs/sha256-...).
_GGUF = re.compile(r".*\.gguf|(?:.*/)?sha256-[0-9a-f]{64}", re.IGNORECASE | re.DOTALL)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_ODD = re.compile(r"[\\%?#\x00-\x1f\x7f]")  # what would be another path on some system, or to some server
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_lora_file(path: str) -> bool:
    """Is this the path of a GGUF LoRA, and not of a folder?"""
    return _GGUF.fullmatch(path) is not None


def wrong_with_adapter(model: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Key of the model's entry, or an empty one for all of it; what is wrong, what to do."""
    yield from wrong_with_push(model.get("push", {}))
    if "adapter" not in model:
        if "data" not in model:
            yield "", "neither data nor adapter", "add `data: [DATASET]`, or `adapter: FOLDER`"
        return
    for key in ("data", "train"):
        if key in model:
            yield key, f"{key} beside adapter: an adapter that is there is not trained", f"remove adapter or {key}"
    said = written(model["adapter"])
    wrong = wrong_with_hub(said) if is_of_hub(said) else wrong_with_path(said)
    if wrong is not None:
        yield "adapter", *wrong


def wrong_with_path(path: str) -> tuple[str, str] | None:
    """What is wrong with this path of an adapter, and what to name instead; None where nothing is."""
    folder = path.replace("\\", "/").rpartition("/")[0] or "."
    if path.lower().endswith(".safetensors"):
        return f"{path!r} is a file of an adapter, and the folder is wanted that its adapter_config.json is in", f"name the folder: {folder}"
    if path.lower().endswith(_PICKLES):
        text = f"{path!r} is a pickle, which may run any program when it is loaded: it is never loaded"
        return text, f"name the folder that it is in, {folder}: a build then says how to convert it"
    return None


def is_of_hub(said: str) -> bool:
    """Does this `adapter:` mean one on the Hugging Face Hub?"""
    return said.startswith(("hf:", SITE, SITE.replace("https:", "http:")))


def wrong_with_hub(said: str) -> tuple[str, str] | None:
    """What is wrong with an `hf://...`, and what to write instead; None where nothing is."""
    form = f"{HUB}OWNER/NAME@COMMIT, or {HUB}OWNER/NAME@COMMIT/FOLDER"
    if not said.startswith(HUB):
        return f"{said!r} is how a browser finds it", f"write {form}"
    repo, revision, path = _parts(said)
    if not REPO.fullmatch(repo):
        return f"{said!r} names no repo of the Hub", f"write {form}"
    parts = path.removesuffix("/").split("/") if path else []
    if {"", ".", ".."} & {*parts} or _ODD.search(path):
        return f"{said!r} is no path in a repo", f"write {form}, as the repo's page has it"
    if path and (wrong := wrong_with_path(path)) is not None:
        return wrong
    if not _COMMIT.fullmatch(revision):
        how = f"name the commit: `git ls-remote {SITE}/{repo} {revision or 'HEAD'}` prints it"
        return (f"{said!r} names no commit" if not revision else f"{revision!r} may mean another commit tomorrow: it is none of 40 digits"), how
    return None


def adapter_of(entry: Mapping[str, Any], model: str, path: Callable[[], str]) -> tuple[str | None, HubAdapter | None]:
    """Where the adapter is, or will be, that the entry of this model names, and where on the Hub it comes from; `path` says it of one that is here."""
    if "adapter" not in entry:
        return None, None
    hub = hub_adapter(entry["adapter"])
    return (fetched_path(hub, model) if hub else path()), hub


def hub_adapter(said: str) -> HubAdapter | None:
    """The adapter on the Hub that is meant; None where it is a path, or nothing that can be had."""
    if not is_of_hub(said) or wrong_with_hub(said) is not None:
        return None
    repo, commit, path = _parts(said)
    return HubAdapter(repo=repo, commit=commit, path=path.removesuffix("/"))


def fetched_path(adapter: HubAdapter, model: str) -> str:
    """Where the adapter is put that a model takes from the Hub: a folder, or a GGUF LoRA."""
    folder = f"build/{model}/hub"
    return f"{folder}/{adapter.path.rpartition('/')[2]}" if is_lora_file(adapter.path) else folder


def _parts(said: str) -> tuple[str, str, str]:
    """Repo, revision, path in it."""
    whole, _, rest = said.removeprefix(HUB).partition("@")
    revision, _, path = rest.partition("/")
    return whole, revision, path
