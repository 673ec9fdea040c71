"""The commands of doit with their options, as completion wants them: kept in the user's cache, as asking doit takes its time."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ollamake.folders import cache_folder

FORMAT = 1


def known_commands() -> dict[str, Any]:
    """Name -> purpose, usage, options; asked of doit where a package or a command of ours has changed since."""
    path = cache_folder() / "completion" / "commands.json"
    key = _key()
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            found: dict[str, Any] = kept["commands"]
            return found
    found = commands()
    keep(path, {"key": key, "commands": found})
    return found


def keep(path: Path, value: dict[str, Any]) -> None:
    """Write this for the next time, if that can be."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(value), encoding="utf-8")
        part.replace(path)


def _key() -> list[Any]:
    folders = [Path(__file__).parents[1] / "commands", *(Path(name) for name in sys.path if name)]
    ours = [path.stat().st_mtime_ns for path in sorted(folders[0].glob("*.py"))]
    return [FORMAT, sys.prefix, max(ours), *(folder.stat().st_mtime_ns for folder in folders if folder.is_dir())]


def commands() -> dict[str, Any]:
    """The same, asked of doit."""
    from doit.cmd_base import DodoTaskLoader
    from doit.doit_cmd import DoitMain

    main = DoitMain()
    kinds = main.get_cmds()
    found = {}
    for name in sorted(kinds):
        try:
            made = kinds.get_plugin(name)(task_loader=DodoTaskLoader(), config={}, bin_name="doit", cmds=kinds, opt_vals={})
        except Exception:  # noqa: BLE001, S112 - somebody's plugin that can't be loaded
            continue
        options = [
            {
                "short": option.short,
                "long": option.long,
                "takes": option.type is not bool,
                "help": (option.help % {"default": option.default}).partition("\n")[0],
                "choices": [[choice, told.partition("\n")[0]] for choice, told in option.choices.items()],
            }
            for option in made.get_options()
        ]
        found[name] = {"purpose": made.doc_purpose, "usage": made.doc_usage, "options": options}
    return found
