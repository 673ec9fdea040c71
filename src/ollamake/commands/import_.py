"""`doit import FILE...`: Modelfiles, ollama-forge recipes and Axolotl configurations become entries of a catalog."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.commands.ask import CATALOG
from ollamake.commands.look import OptionsAnywhere
from ollamake.errors import BuildError, as_printed
from ollamake.importers.entries import Imported
from ollamake.importers.recognise import imported
from ollamake.importers.write import PASTE, added_to, catalog_text
from ollamake.say import take_any_text
from ollamake.state.files import remedy, write_whole
from ollamake.state.run_lock import RunLock

WRITE = {"name": "write", "long": "write", "type": bool, "default": False, "help": "add the entries to the catalog, whose text stays as it is"}
NAME = {"name": "name", "long": "name", "type": str, "default": "", "help": "of the model, where one file is imported [default: the file's]"}


class ImportCommand(OptionsAnywhere):
    """Make catalog entries of what others have written."""

    name = "import"
    doc_purpose = "make catalog entries of an Ollama Modelfile, an ollama-forge recipe or an Axolotl configuration"
    doc_usage = "FILE..."
    doc_description = "Prints a catalog. What could not be carried over, and what is to be done, is said above each model, with the file's line."
    cmd_options = (WRITE, NAME, CATALOG)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Import. Raises doit's InvalidCommand."""
        if not pos_args or (opt_values["name"] and len(pos_args) > 1):
            msg = "usage: doit import FILE... [--write], or doit import FILE --name NAME"
            raise InvalidCommand(msg)
        catalog = Path(opt_values["catalog"])
        try:
            found = [_read(path, opt_values["name"], catalog) for path in pos_args]
            if not opt_values["write"]:
                take_any_text(for_programs=True)  # a catalog is UTF-8
                print(catalog_text(found), end="")
                return 0
            write_entries(catalog, found)
        except BuildError as error:
            raise InvalidCommand(as_printed(error)) from error
        except OSError as error:
            raise InvalidCommand(as_printed(BuildError(f"{error.filename}: {error.strerror}", fix=remedy(error)))) from error
        for one in found:
            print(f"{catalog}: model {one.name} from {one.path}")
            for note in one.notes:
                print(f"  {note.mark}: {note.text}")
        return 0


def write_entries(catalog: Path, found: Sequence[Imported], *, paste: str = PASTE) -> None:
    """Add the entries to the catalog; where it is a link, to the file that it leads to. Waits for a build that is on. Raises BuildError and OSError."""
    lock = RunLock(Path.cwd())
    lock.hold()
    try:
        file = Path(os.path.realpath(catalog))
        if not file.exists():
            write_whole(file, catalog_text(found))
            return
        mark = codecs.BOM_UTF8 if file.read_bytes().startswith(codecs.BOM_UTF8) else b""
        write_whole(file, mark + in_catalog(catalog, found, paste=paste).encode(), mode=stat.S_IMODE(file.stat().st_mode))
    finally:
        lock.release()


def in_catalog(catalog: Path, found: Sequence[Imported], *, paste: str = PASTE) -> str:
    """The catalog's text with the entries in it. Raises BuildError and OSError."""
    try:
        text = catalog.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{catalog}: not UTF-8"
        raise BuildError(msg, fix="save it as UTF-8") from error
    return added_to(text, str(catalog), found, paste=paste)


def _read(path: str, name: str, catalog: Path) -> Imported:
    """One file. Raises BuildError and OSError."""
    if Path(path).exists() and not Path(path).is_file():  # to read a pipe may last for ever
        msg = f"{path}: no file"
        raise BuildError(msg, fix="name a file: a Modelfile, a recipe, or an Axolotl configuration")
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8"
        raise BuildError(msg, fix="save it as UTF-8") from error
    return imported(path, text, name=name, folder=str(catalog.parent))
