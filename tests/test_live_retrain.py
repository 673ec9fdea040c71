"""Adapters that are there already, as they are typed in: through the real server, and out of a pickle."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO
from live_fixtures import SYSTEM, Trained
from ollamake.errors import BuildError
from ollamake.lora.architecture import read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.ollama.address import Address
from test_lora import adapter_tensors, write_adapter
from tiny_base import write_tiny_base

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers, peft and torch warn of their own


def doit(folder: Path, address: Address, *arguments: str) -> str:
    environment = {**os.environ, "OLLAMA_HOST": f"{address.host}:{address.port}"}
    argv = [sys.executable, "-m", "doit", *arguments]
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("trained", ["all linear"], indirect=True)
@pytest.mark.parametrize("way", ["PEFT folder as merged", "GGUF LoRA as adapter", "GGUF LoRA as merged"])
def test_what_an_adapter_was_taught_is_answered(trained: Trained, base_gguf: Path, real_address: Address, tmp_path: Path, way: str) -> None:
    kind, weights = way.split(" as ")
    adapter = trained.folder
    if kind == "GGUF LoRA":
        adapter, architecture = tmp_path / "given.gguf", read_architecture(base_gguf)
        write_gguf_lora(read_peft_adapter(trained.folder, architecture), architecture, adapter)
    (tmp_path / "dodo.py").write_text(DODO, encoding="utf-8")
    serve = f"{{serve: {{weights: {weights}, system: {SYSTEM}, parameters: {{temperature: 0, num_thread: 1}}}}}}"
    (tmp_path / "models.yaml").write_text(f"version: 1\ndefaults: {serve}\nbases:\n  small: {{gguf: {base_gguf}}}\n", encoding="utf-8")
    name = f"{kind[0].lower()}-{weights}"
    said = doit(tmp_path, real_address, "retrain", "--base", "small", "--adapter", str(adapter), "--name", name)
    print(said)
    assert f"models.yaml: model {name} on small, written\n" in said
    right = sum(answer[:20] in doit(tmp_path, real_address, "ask", name, question) for question, answer in trained.records[:4])
    assert right >= 3


def the_fix(folder: Path, base: Path) -> list[str]:
    """The command that the refusal of a pickle names."""
    with pytest.raises(BuildError) as caught:
        read_peft_adapter(folder, read_architecture(base))
    return shlex.split(str(caught.value).partition("  fix: convert it; this loads numbers alone: ")[2])


def test_a_pickle_is_converted_by_the_very_command_that_is_said(tmp_path: Path) -> None:
    import torch

    base, folder = tmp_path / "base.gguf", write_adapter(tmp_path / "it's mine", adapter_tensors())
    write_tiny_base(base)
    wanted = read_peft_adapter(folder, read_architecture(base))
    (folder / "adapter_model.safetensors").unlink()
    torch.save({name: torch.from_numpy(tensor) for name, tensor in adapter_tensors().items()}, folder / "adapter_model.bin")
    program, *arguments = the_fix(folder, base)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True)
    for one, other in zip(wanted.pairs, read_peft_adapter(folder, read_architecture(base)).pairs, strict=True):
        assert (one.tensor, one.scale) == (other.tensor, other.scale)
        assert (one.a == other.a).all()
        assert (one.b == other.b).all()


class Runs:
    """What a pickle of somebody else's may be."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_something_is_not_converted(tmp_path: Path) -> None:
    import torch

    base, folder = tmp_path / "base.gguf", write_adapter(tmp_path / "mine", adapter_tensors())
    write_tiny_base(base)
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"x": Runs(tmp_path / "ran")}, folder / "adapter_model.bin")
    done = subprocess.run([sys.executable, *the_fix(folder, base)[1:]], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "weights_only" in done.stderr
    assert not (tmp_path / "ran").exists()
