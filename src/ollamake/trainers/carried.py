"""What goes into a job for a program that runs where ollamake is not installed, and what comes back from one that keeps its result to itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.trainers.adapter_folder import CONFIG, WEIGHTS, adapter_folder

_PACKAGE = Path(__file__).parent.parent
_MODULES = (  # of ollamake, that all of them need
    *("errors", "spelling", "records/chat_template"),
    *("trainers/adapter_folder", "trainers/examples", "trainers/hf_ended", "trainers/hf_examples", "trainers/hf_gpus"),
    *("trainers/hf_progress", "trainers/native_options"),
)


def carried(*more: str, **programs: str) -> dict[str, str]:
    """The files, path in the job's folder -> text: the part of ollamake that makes examples and tells of them, and these modules of `trainers`.

    It is found before an ollamake that is installed there, as programs run in the job's folder. `more`: modules of ollamake that these need beside
    the usual ones. `programs`: name there -> name here.
    """
    rooms = sorted({Path(module).parent.as_posix() for module in (*_MODULES, *more)})
    # Packages are carried empty: what is in theirs is for a whole ollamake.
    packages = {(Path("ollamake") / room / "__init__.py").as_posix(): "" for room in rooms}
    modules = {f"ollamake/{module}.py": _source(module) for module in (*_MODULES, *more)}
    return packages | modules | {f"{there}.py": _source(f"trainers/{here}") for there, here in programs.items()}


def _source(module: str) -> str:
    return (_PACKAGE / f"{module}.py").read_text(encoding="utf-8")


def take_adapter(folder: Path) -> Path:
    """The PEFT directory of a job whose trainer has written it among its checkpoints, in `work`: its two files are put into `out`.

    The trainer names the base by this machine's path, and the layers in any order; here the same training gives the same bytes.
    Raises BuildError where there is no adapter.
    """
    work, out = adapter_folder(folder / "work"), folder / "out"
    try:
        config = json.loads((work / CONFIG).read_text(encoding="utf-8"))
        base = json.loads((folder / "job.json").read_text(encoding="utf-8"))["base"]
        out.mkdir(exist_ok=True)
        (out / CONFIG).write_text(_plain_config(config, base), encoding="utf-8")
        shutil.copyfile(work / WEIGHTS, out / WEIGHTS)
    except (OSError, ValueError, KeyError) as error:
        msg = f"the training has left no adapter that can be read: {error}"
        raise BuildError(msg, fix="read the training's log; then run `doit` again") from error
    return out


def _plain_config(config: dict[str, Any], base: Mapping[str, Any]) -> str:
    named = str(base.get("hf", ""))
    config["base_model_name_or_path"] = named if named and not Path(named).is_absolute() else Path(base["gguf"]).name
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
