"""An adapter on the Hugging Face Hub -> its files here. What was fetched once is not asked for again: a commit does not change."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.catalog.adapters import wrong_with_hub
from ollamake.catalog.outside import HubAdapter
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step
from ollamake.hub.api import hub_api
from ollamake.hub.failures import failures_of
from ollamake.say import say

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(step: Step, model: Model) -> dict[str, Any]:
    """Get the files of the model's adapter, by the library's own cache. Raises BuildError and OSError."""
    assert model.hub is not None  # or else there is no such step
    what = f"{step.subject.mark}: model {model.name!r}: can't fetch {model.hub.said}"
    for target in map(Path, step.writes):
        name = model.hub.path if len(step.writes) == 1 else "/".join(filter(None, (model.hub.path, target.name)))
        with failures_of(what, model.hub.repo, "doit"):
            found = _fetched(model, model.hub, name, what)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(found, partial)  # the library's own is a link into its cache
            os.replace(partial, target)
    return {"adapter": model.hub.said}


def _fetched(model: Model, adapter: HubAdapter, name: str, what: str) -> str:
    """The path of a file of the repo, in the library's cache. Raises BuildError, and what the library raises."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    if not isinstance(try_to_load_from_cache(adapter.repo, name, revision=adapter.commit), str):
        say(f"   {model.name}: fetching {name} of {adapter.repo}")
    try:
        found = hf_hub_download(adapter.repo, name, revision=adapter.commit)
        if not _is_whole(found):  # the library looks at its size alone
            found = hf_hub_download(adapter.repo, name, revision=adapter.commit, force_download=True)
    except RemoteEntryNotFoundError as error:
        raise _absent(adapter, name, what) from error
    if not _is_whole(found):
        msg = f"{what}: {name} comes with other bytes than its digest says"
        raise BuildError(msg, fix="run `doit` again; if it stays so, look at what is between here and the Hub, or tell the repo's owner")
    return str(found)


def _is_whole(path: str) -> bool:
    """Is the file what its name in the library's cache says? That is the digest of what git-lfs keeps, as weights; of small files it is none of ours."""
    name = Path(path).resolve().name
    return _SHA256.fullmatch(name) is None or digest_file(Path(path)) == f"sha256:{name}"


def _absent(adapter: HubAdapter, name: str, what: str) -> BuildError:
    """The error for a file that the repo does not have at this commit: says what it has in its place."""
    there = [path for path in hub_api().list_repo_files(adapter.repo, revision=adapter.commit) if path.isprintable()]
    folder, _, last = name.rpartition("/")
    beside = [path for path in there if path.rpartition("/")[0] == folder]
    if any(path.endswith(_PICKLES) for path in beside) and last.endswith(".safetensors"):
        pickle = next(path for path in beside if path.endswith(_PICKLES))
        text = f"{what}: its weights are in {pickle}, a pickle, which may run any program when it is loaded: it is never fetched"
        return BuildError(text, fix="have its owner add adapter_model.safetensors, or convert it, and name the folder in the place of hf://")
    folders = {path.rpartition("/")[0] for path in there if path.endswith("/adapter_config.json")} - {folder}
    others = sorted(one for one in folders if wrong_with_hub(replace(adapter, path=one).said) is None)
    where = f"name the folder that it is in: {', '.join(others[:5])}" if others else "name a repo that holds a PEFT adapter"
    return BuildError(f"{what}: {adapter.repo} has no {name} at this commit", fix=where)
