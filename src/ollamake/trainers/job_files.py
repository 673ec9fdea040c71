"""What of ollamake's own is written into a job's folder, for a program that runs where ollamake is not installed. And what comes back from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PACKAGE = Path(__file__).parent.parent
# As a package of its own: it is found before an installed ollamake, as the programs run in the job's folder.
_CORE = ("errors.py", "spelling.py", "records/chat_template.py", "trainers/hf_examples.py")


def job_files(**modules: str) -> dict[str, str]:
    """The files, path in the job's folder -> text: what makes examples of the text, and these modules of `trainers`, by the names they have there."""
    rooms = sorted({Path(part).parent.as_posix() for part in _CORE})
    files = {(Path("ollamake") / room / "__init__.py").as_posix(): "" for room in rooms}
    files |= {f"ollamake/{part}": _source(part) for part in _CORE}
    return files | {f"{name}.py": _source(f"trainers/{module}.py") for name, module in modules.items()}


def _source(part: str) -> str:
    return (_PACKAGE / part).read_text(encoding="utf-8")


def take_adapter(folder: Path) -> Path:
    """The PEFT directory of a job whose trainer has written it among its checkpoints in `work`: its two files are moved into `out`.

    The config names the base by this machine's path, and its layers in any order: it is written anew, so that the same training gives the same bytes.
    Raises BuildError where there is no whole adapter.
    """
    out, work = folder / "out", folder / "work"
    if not (out / WEIGHTS).exists():
        try:
            config = json.loads((work / CONFIG).read_text(encoding="utf-8"))
            base = json.loads((folder / "job.json").read_text(encoding="utf-8"))["base"]
            out.mkdir(exist_ok=True)
            (out / CONFIG).write_text(_plain_config(config, base), encoding="utf-8")
            (work / WEIGHTS).replace(out / WEIGHTS)
        except (OSError, ValueError, KeyError) as error:
            msg = f"the training has written no adapter: {error}"
            raise BuildError(msg, fix="read the training's log, then run `doit` again") from error
    return out


def _plain_config(config: dict[str, Any], base: Mapping[str, Any]) -> str:
    config["base_model_name_or_path"] = base.get("hf") or Path(base["gguf"]).name
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    return json.dumps(config, indent=2, sort_keys=True) + "\n"
