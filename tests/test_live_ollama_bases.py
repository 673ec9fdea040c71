"""A base that a real Ollama holds: found in its folder, built on, served with its template; and pulled again."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from conftest import Repo
from ollamake.digest import digest_file
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.held import find

pytestmark = pytest.mark.live
CATALOG = """\
version: 1
bases: {small: {ollama: smol}}
models: {bot: {base: small, adapter: mine, serve: {weights: merged, parameters: {num_predict: 8, num_thread: 1}}}}
"""
HIDDEN, KV, LAYERS = 576, 192, 30  # of SmolLM2-135M


def write_random_adapter(folder: Path) -> None:
    """A LoRA on q and v, strong enough to be heard."""
    chance = np.random.default_rng(7)
    tensors = {}
    for layer in range(LAYERS):
        for module, rows in (("q_proj", HIDDEN), ("v_proj", KV)):
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{{}}.weight"
            tensors[name.format("A")] = chance.standard_normal((4, HIDDEN)).astype(np.float32) / 24
            tensors[name.format("B")] = chance.standard_normal((rows, 4)).astype(np.float32) / 10
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def hold(server: OllamaServer, gguf: Path) -> None:
    """Have the server hold this file as `smol`."""
    server.create(NewModel(name="smol", files=((gguf, digest_file(gguf)),), adapter=None, system=None, template=None, parameters={}))


def test_a_base_in_ollama_is_built_on_and_pulled_again(
    tmp_path: Path, base_gguf: Path, real_server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", f"{real_server.address.host}:{real_server.address.port}")
    hold(real_server, base_gguf)
    shown = httpx.post(f"{real_server.address}/api/show", json={"model": "smol"}).json()
    blob = Path(next(line.removeprefix("FROM ") for line in shown["modelfile"].splitlines() if line.startswith("FROM ")))
    monkeypatch.setenv("OLLAMA_MODELS", str(blob.parent.parent))
    found = find("smol")
    assert (found.gguf, found.template) == (str(blob), shown["template"])

    Path("models.yaml").write_text(CATALOG, encoding="utf-8")
    write_random_adapter(Path("mine"))
    repo = Repo(tmp_path, None)  # type: ignore[arg-type]  # no stand-in
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert real_server.template("bot") == shown["template"]
    assert repo.doit().ran == []

    repo.replace("version: 1\n", "version: 1\npolicy: {on_base_change: warn}\n")
    built = json.loads(Path("build/bot/served.json").read_text(encoding="utf-8"))
    hold(real_server, Path("build/bot/merged.gguf"))  # as a pull brings another one under the name
    warned = repo.doit()
    assert (warned.code, warned.ran) == (0, [])
    assert "models.yaml:3: warning: base 'small' is another one than bot came from" in warned.err
    repo.replace("warn", "fail")
    failed = repo.doit()
    assert (failed.code, failed.ran) == (1, [])
    assert f"  then: {built['base']}\n  now:  {built['files']['merged.gguf']}\n" in failed.out + failed.err
    hold(real_server, base_gguf)
    assert (repo.doit().code, repo.doit().ran) == (0, [])
    for name in ("smol", "bot"):
        real_server.delete(name)
