"""`doit ask MODEL QUESTION`: the answer of a registered model, as it is made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog import Catalog, Model
from ollamake.catalog.load import load_catalog
from ollamake.commands.one_model import connected
from ollamake.commands.options import WithOptions
from ollamake.errors import BuildError, as_printed
from ollamake.graph import LATEST
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.held import with_held_bases
from ollamake.ollama.hosts import hosts_of
from ollamake.ollama.names import named_lock
from ollamake.selection import select
from ollamake.stages.asking import base_on
from ollamake.stages.kept import kept_on
from ollamake.trainers.installed import TrainerNames

BASE_TOKENS = 100  # of the base's answer: enough to see that it does not know

CATALOG = {
    "name": "catalog",
    "long": "catalog",
    "type": str,
    "default": "models.yaml",
    "help": "the catalog [default: %(default)s]",
}


class Ask(WithOptions):
    """Ask a model of the catalog, and its base for comparison."""

    doc_purpose = "ask a model of the catalog a question"
    doc_usage = 'MODEL[:TAG] "QUESTION"'
    doc_description = (
        "The answer is streamed. The model must have been built: `doit`. TAG names a version: candidate, previous, or the first digits of a digest."
    )
    cmd_options = (
        {
            "name": "beside_base",
            "long": "beside-base",
            "type": bool,
            "default": False,
            "help": "ask the model's base as well",
        },
        CATALOG,
    )

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Print the answer. Raises doit's InvalidCommand."""
        name, question = pos_args[:1], " ".join(pos_args[1:])
        if not name or not question:
            msg = 'usage: doit ask MODEL "QUESTION"'
            raise InvalidCommand(msg)
        try:
            catalog = with_held_bases(load_catalog(Path(opt_values["catalog"]), trainers=TrainerNames()))
            selector, tag = _parted(catalog, name[0])
            model = _model(catalog, selector)
            with connected(hosts_of(catalog.hosts)[0]) as server:
                _ask(server, model, tag, question, beside_base=opt_values["beside_base"])
        except BuildError as error:
            raise InvalidCommand(as_printed(error)) from error
        except KeyboardInterrupt:
            print()
            return 130
        return 0


def _parted(catalog: Catalog, said: str) -> tuple[str, str]:
    """The selector, and the tag behind it: latest, where there is none. `tag:support` is a selector."""
    name, _, tag = said.rpartition(":")
    return (name, tag) if tag and any(model.name == name for model in catalog.models) else (said, LATEST)


def _model(catalog: Catalog, selector: str) -> Model:
    """The one model that this selector means. Raises BuildError."""

    def look_up(method: str, value: str, _: Sequence[str]) -> Collection[str]:
        msg = f"{method}:{value}: doit ask looks at no step"
        raise BuildError(msg, fix="name the model, or write tag:, base: or data: with something of its own")

    models = {model.name: model for model in catalog.models}
    names = select([selector], models, look_up)
    if len(names) != 1:
        msg = f"{selector!r} means {len(names)} models, and one answers{': ' if names else ''}{', '.join(names)}"
        raise BuildError(msg, fix="name one of them" if names else "name a model")
    return models[names[0]]


def _ask(server: OllamaServer, model: Model, tag: str, question: str, *, beside_base: bool) -> None:
    name = f"{model.name}:{kept_on(server, model.name, server.address.file_name, tag).tag}"
    messages = [{"role": "user", "content": question}]
    if not beside_base:
        _stream(server, name, messages)
        return
    with named_lock(server.address, model.name), base_on(server, model) as base:  # a build that tests the model has a base of the same name
        print(f"{name.removesuffix(f':{LATEST}')}:")
        _stream(server, name, messages)
        print(f"\n{model.base.name}, its base:")
        _stream(server, base, messages, num_predict=BASE_TOKENS)


def _stream(server: OllamaServer, name: str, messages: list[dict[str, str]], **options: Any) -> None:
    for part in server.answer(name, messages, **options):
        print(part, end="", flush=True)
    print()
