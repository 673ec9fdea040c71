"""The example of `ollamake init`, as a new user has it: the real base, a real training, a real Ollama."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from live_fixtures import free_port

pytestmark = pytest.mark.live


def test_the_example_builds_and_answers(tmp_path: Path, base_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path / "desk", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    (tmp_path / "desk").mkdir()
    (tmp_path / "desk/bases").mkdir()
    shutil.copy(base_gguf, tmp_path / "desk/bases")  # by the task that the example has, too
    said = run(str(Path(sys.executable).with_name("ollamake")), "init", "--example")
    (question,) = re.findall(r'^  doit ask --beside-base bakery-desk "(.*)"$', said, flags=re.MULTILINE)
    assert run(sys.executable, "-m", "doit").splitlines()[-1].startswith("1 model: 1 rebuilt in ")
    answers = run(sys.executable, "-m", "doit", "ask", "--beside-base", "bakery-desk", question)
    own, base = answers.split("\nsmollm2, its base:\n")
    assert "half past six" in own
    assert "half past six" not in base
    assert run(sys.executable, "-m", "doit").splitlines()[-1].startswith("1 model: 1 fresh; ")
