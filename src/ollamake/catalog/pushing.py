"""`push:` of a model -> where it is published, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ollamake.catalog.held import held_name
from ollamake.catalog.outside import Push
from ollamake.catalog.values import Model
from ollamake.errors import Fault, Mark

_OWN = "{name}"  # stands for the model's name
REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?/[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_USUAL = 2  # parts of a name in Ollama's own registry: user/model


def push_of(said: Mapping[str, Any], name: str, mark: Mark) -> Push | None:
    """Where the model of this name is published; None where the catalog says nothing of it."""
    if not said:
        return None
    ollama, hub = (_as_mapping(said.get(kind), key) for kind, key in (("ollama", "name"), ("hub", "repo")))
    in_ollama, on_hub = ollama.get("name"), hub.get("repo")
    if in_ollama is not None:
        in_ollama = in_ollama.replace(_OWN, name)
        in_ollama += "" if ":" in in_ollama.rpartition("/")[2] else ":latest"
    return Push(
        ollama=in_ollama,
        insecure=bool(ollama.get("insecure", False)),
        hub=None if on_hub is None else on_hub.replace(_OWN, name),
        private=bool(hub.get("private", True)),
        mark=mark,
    )


def wrong_with_push(said: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Key of the model's entry, what is wrong, what to do."""
    name = _as_mapping(said.get("ollama"), "name").get("name")
    if name is not None:
        plain = name.replace(_OWN, "model")
        if "://" in plain or held_name(plain) is None:
            yield (
                "push.ollama",
                f"push.ollama: {name!r} can't be a model in a registry",
                "write it as `ollama push` takes it: user/model or user/model:tag",
            )
        elif plain.count("/") + 1 < _USUAL:
            yield "push.ollama", f"push.ollama: {name!r} names nobody whose model it is", f"write USER/{name}, as you are called on ollama.com"
    repo = _as_mapping(said.get("hub"), "repo").get("repo")
    if repo is not None and not REPO.fullmatch(repo.replace(_OWN, "model")):
        yield "push.hub", f"push.hub: {repo!r} is no repo of the Hub", "write OWNER/NAME, as the repo's page is called"


def pushed_twice(models: Iterable[Model]) -> Iterator[Fault]:
    """The models of which another is published under the same name."""
    first: dict[tuple[str, str], Model] = {}
    for model in models:
        for target in () if model.push is None else model.push.targets.items():
            before = first.setdefault(target, model)
            if before is not model:
                assert model.push is not None
                kind, name = target
                text = f"model {model.name!r}: push.{kind}: {name} is where model {before.name!r} is pushed"
                yield Fault(mark=model.push.mark, text=text, fix=f"name another; {_OWN} in it stands for the model's name")


def _as_mapping(said: Any, key: str) -> Mapping[str, Any]:
    return {} if said is None else {key: said} if isinstance(said, str) else said
