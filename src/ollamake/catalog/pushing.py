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
REPO = re.compile(r"(?!.*(?:--|\.\.|\.git$))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?/[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_NOBODYS = ("registry.ollama.ai", "library")  # registry and user of a name that says neither


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
        known = held_name(plain)
        if known is None:
            yield (
                "push.ollama",
                f"push.ollama: {name!r} can't be a model in a registry",
                "write it as `ollama push` takes it: user/model or user/model:tag",
            )
        elif (known.host, known.namespace) == _NOBODYS:  # there, a server has the models of this catalog themselves
            own = name.rpartition("/")[2]
            yield "push.ollama", f"push.ollama: {name!r} names nobody whose model it is", f"write USER/{own}, as you are called on ollama.com"
    repo = _as_mapping(said.get("hub"), "repo").get("repo")
    if repo is not None and not REPO.fullmatch(repo.replace(_OWN, "model")):
        yield "push.hub", f"push.hub: {repo!r} is no repo of the Hub", "write OWNER/NAME, as the repo's page is called"


def pushed_twice(models: Iterable[Model]) -> Iterator[Fault]:
    """The models of which another is published under the same name."""
    first: dict[tuple[str, object], Model] = {}
    for model in models:
        for kind, name in () if model.push is None else model.push.targets.items():
            before = first.setdefault((kind, _as_compared(kind, name)), model)
            if before is not model:
                assert model.push is not None
                text = f"model {model.name!r}: push.{kind}: {name} is where model {before.name!r} is pushed"
                yield Fault(mark=model.push.mark, text=text, fix=f"name another; {_OWN} in it stands for the model's name")


def _as_compared(kind: str, name: str) -> object:
    """The same for names that mean the same: neither Ollama nor the Hub tells two by case."""
    return held_name(name.casefold()) if kind == "ollama" else name.casefold()


def _as_mapping(said: Any, key: str) -> Mapping[str, Any]:
    return {} if said is None else {key: said} if isinstance(said, str) else said
