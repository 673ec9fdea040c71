"""`doit retrain --base B --adapter PATH --name N`: an adapter that is there becomes a model; `doit retrain SELECTOR...`: models are trained anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog import Model
from ollamake.catalog.load import load_catalog
from ollamake.commands.ask import CATALOG
from ollamake.commands.build import BuildCommand
from ollamake.commands.import_ import NAME, in_catalog, write_entries
from ollamake.errors import BuildError, as_printed
from ollamake.importers.entries import Imported
from ollamake.importers.given import Edited, Known, given, is_the_same, known
from ollamake.importers.write import catalog_text
from ollamake.ollama.held import with_held_base
from ollamake.recipes import held_against_trainers
from ollamake.stages.package import check_adapter
from ollamake.state.files import remedy
from ollamake.trainers.installed import TrainerNames

BASE = {"name": "base", "long": "base", "type": str, "default": "", "help": "a base of the catalog, or the path of a GGUF [default: the only base]"}
ADAPTER = {"name": "adapter", "long": "adapter", "type": str, "default": "", "help": "a PEFT folder, or a GGUF LoRA"}
DRY_RUN = {
    "name": "dry_run",
    "long": "dry-run",
    "type": bool,
    "default": False,
    "help": "check the adapter and print the entries; write and build nothing",
}
PASTE = "or paste what --dry-run prints"
USAGE = "usage: doit retrain --adapter PATH --name NAME [--base BASE], or doit retrain SELECTOR..."


class RetrainCommand(BuildCommand):
    """Take an adapter that is there, or train anew."""

    name = "retrain"
    doc_purpose = "make a model of an adapter that is there, or train models anew"
    doc_usage = "--adapter PATH --name NAME [--base BASE] | SELECTOR..."
    doc_description = (
        "With --adapter: checks the adapter against the base, writes the model's entry into the catalog, whose text stays as it is, and builds it. "
        "With selectors: `doit build -a` of these models, which trains them however fresh they are."
    )
    cmd_options = (*BuildCommand.cmd_options, BASE, ADAPTER, {**NAME, "help": "of the model"}, DRY_RUN, CATALOG)

    def execute(self, params: Any, args: list[str]) -> int:
        """Write and build, or train anew. Returns doit's exit code. Raises what doit prints as an error."""
        names = {key: str(params[key]) for key in ("base", "adapter", "name")}
        if not any(names.values()) and args:
            if params["dry_run"]:
                told = "--dry-run is for an adapter that is there; `doit retrain SELECTOR...` trains all that it names"
                raise InvalidCommand(as_printed(BuildError(told, fix="`doit plan` says how long each training takes")))
            params["always"] = True
            return int(super().execute(params, args) or 0)
        if args or not (names["adapter"] and names["name"]):
            raise InvalidCommand(USAGE)
        self.go_to_the_dodo_file(params, names)
        catalog = Path(params["catalog"])
        try:
            entry, there = self.entry(catalog, names)
            if params["dry_run"]:
                print(catalog_text([entry]), end="")
                return 0
            if there is None:
                write_entries(catalog, [entry], paste=PASTE)
        except BuildError as error:
            raise InvalidCommand(as_printed(error)) from error
        except OSError as error:
            raise InvalidCommand(as_printed(BuildError(f"{error.filename}: {error.strerror}", fix=remedy(error)))) from error
        if not (params["json"] or params["quiet"]):
            print(f"{catalog}: model {entry.name} on {entry.model['base']}{', written' if there is None else f', there already at {there.mark}'}")
        return int(super().execute(params, [f"test:{entry.name}"]) or 0)

    def go_to_the_dodo_file(self, params: Any, paths: dict[str, str]) -> None:
        """Work in the folder that doit works in. What was typed is seen from where it was typed; doit finds the same file when it looks again."""
        if "dodoFile" not in params:  # tasks that are given by a program
            return
        typed_in = os.getcwd()
        if not params["seek_file"]:
            params["dodoFile"] = os.path.abspath(params["dodoFile"])
        params["cwdPath"] = params["cwdPath"] and os.path.abspath(params["cwdPath"])
        self.loader.setup(params)
        for key in ("base", "adapter"):
            typed = os.path.join(typed_in, paths[key])
            if paths[key] and os.getcwd() != typed_in and os.path.exists(typed):
                paths[key] = os.path.relpath(typed)

    def entry(self, catalog: Path, names: dict[str, str]) -> tuple[Imported, Model | None]:
        """The model's entry, once it is sure that it can be built; and the model that the catalog has of that name, if it is just that. Raises BuildError."""
        there = known(catalog, tuple(TrainerNames()))
        entry = given(there, **names)
        model = there.models.get(entry.name)
        if model is None:
            model = self.as_it_would_be(there, entry)
        elif not is_the_same(model, entry, there):
            what = "is trained" if model.adapter is None else f"has the adapter {model.adapter}"
            msg = f"{model.mark}: model {model.name!r} is there already: it {what}, on base {model.base.name!r}"
            raise BuildError(msg, fix="name the new one otherwise, or edit that entry; `doit build` then makes the model")
        check_adapter(with_held_base(model))
        return entry, there.models.get(entry.name)

    def as_it_would_be(self, there: Known, entry: Imported) -> Model:
        """The model, by the catalog as it would be. Raises BuildError where that would have faults."""
        text = in_catalog(there.path, [entry], paste=PASTE)
        loaded = load_catalog(there.path, trainers=TrainerNames(), only_looks=True, files=Edited(there.path, text))
        return next(model for model in held_against_trainers(loaded).models if model.name == entry.name)
