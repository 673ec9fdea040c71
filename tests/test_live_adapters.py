"""Every adapter that an Ollama was seen to fail at, by a real build before a real server: refused by name, or carried right. The server lives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Repo
from live_fixtures import ALL_LINEAR
from ollamake.ollama.address import digests_at
from ollamake.ollama.client import OllamaServer
from test_live_architectures import ollama_answer
from test_lora import MALFORMED, adapter_tensors, write_adapter
from tiny_models import Tiny, make_model, tell_apart

pytestmark = pytest.mark.live
CATALOG = "version: 1\nbases: {tiny: {gguf: base.gguf}}\nmodels: {m: {base: tiny, adapter: mine}}\n"


@pytest.fixture
def repo(tmp_path: Path, real_server: OllamaServer, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo whose only model has the adapter `mine`, and the real server. The base, and the adapter, are the test's."""
    (tmp_path / "models.yaml").write_text(CATALOG, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", f"{real_server.address.host}:{real_server.address.port}")
    return Repo(tmp_path, None)  # type: ignore[arg-type]  # no stand-in


ONES = np.ones((4, 64), np.float32)
HEAD = "base_model.model.lm_head"
EMBEDDING = "base_model.model.model.embed_tokens"
# The rows of the table of what Ollama does with adapters (facts of 0.9.3: it dies, or fails when it loads, or says nothing and serves what is wrong).
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    **{
        name: MALFORMED[name]
        for name in (
            *("DoRA", "DoRA flag", "bias", "modules_to_save", "LoRA on lm_head", "A without B", "more layers than the base", "wrong size", "NaN"),
            *("LoHa", "no alpha", "alpha 0", "LoRA on a norm"),
        )
    },
    "modules_to_save of lm_head": (
        {f"{HEAD}.weight": np.ones((300, 64), np.float32)},
        {"modules_to_save": ["lm_head"]},
        f"tensor '{HEAD}.weight' is none of a plain LoRA's",
    ),
    "LoRA on the embedding": (
        {f"{EMBEDDING}.lora_embedding_A": np.ones((4, 300), np.float32), f"{EMBEDDING}.lora_embedding_B": np.ones((64, 4), np.float32)},
        {},
        f"tensor '{EMBEDDING}.lora_embedding_A' is none of a plain LoRA's: a LoRA on an embedding",
    ),
    "prompt tuning": (
        {**dict.fromkeys(adapter_tensors()), "prompt_embeddings": np.ones((8, 64), np.float32)},
        {"peft_type": "PROMPT_TUNING"},
        "tensor 'prompt_embeddings' is none of a plain LoRA's: a prompt that was tuned",
    ),
    "unknown module": (
        {"base_model.model.model.layers.0.mlp.router.lora_A.weight": ONES, "base_model.model.model.layers.0.mlp.router.lora_B.weight": ONES.T},
        {},
        "the base has no module 'model.layers.0.mlp.router' that takes a LoRA",
    ),
}


def assert_refused(repo: Repo, server: OllamaServer, said: str) -> None:
    """The build fails with this; the server has no model of it, and lives."""
    result = repo.doit()
    assert result.code == 1
    assert "\npackage:m failed:\nmine" in result.out, result.out
    assert said in result.out
    assert "\n  fix: " in result.out
    assert not [name for name in digests_at(server.address) or {} if name.startswith("m:")]
    assert server.version() == "0.9.3"


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_an_adapter_that_ollama_fails_at_is_refused_by_the_name_of_its_tensor(
    repo: Repo, tiny_base: Path, real_server: OllamaServer, row: tuple[dict[str, Any], dict[str, Any], str]
) -> None:
    tensors, config, said = row
    (repo.path / "base.gguf").write_bytes(tiny_base.read_bytes())
    changed = {name: np.ascontiguousarray(tensor) for name, tensor in {**adapter_tensors(), **tensors}.items() if tensor is not None}
    write_adapter(repo.path / "mine", changed, **config)
    assert_refused(repo, real_server, said)


def _cut(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (_cut, "mine/adapter_model.safetensors: not a whole safetensors file"),
    "empty": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b""), "mine/adapter_model.safetensors: not a whole safetensors file"),
    "no adapter_config.json": (lambda folder: (folder / "adapter_config.json").unlink(), "no such file: mine/adapter_config.json"),
}


@pytest.mark.parametrize(("damage", "said"), BROKEN.values(), ids=BROKEN)
def test_a_damaged_adapter_is_refused_by_the_name_of_its_file(
    repo: Repo, tiny_base: Path, real_server: OllamaServer, damage: Callable[[Path], Any], said: str
) -> None:
    (repo.path / "base.gguf").write_bytes(tiny_base.read_bytes())
    damage(write_adapter(repo.path / "mine", adapter_tensors()))
    result = repo.doit()
    assert result.code != 0
    assert said in result.out + result.err
    assert real_server.version() == "0.9.3"


def _edit(folder: Path, **config: Any) -> None:
    """Write these keys into the config, and take those out that are None."""
    path = folder / "adapter_config.json"
    facts = {**json.loads(path.read_text(encoding="utf-8")), **config}
    path.write_text(json.dumps({key: value for key, value in facts.items() if key not in config or value is not None}), encoding="utf-8")


# What Ollama serves wrong without a word, or fails at, and is carried right.
CARRIED: dict[str, tuple[dict[str, Any], Callable[[Path], Any], Sequence[str]]] = {
    "rsLoRA": ({"use_rslora": True}, lambda _: None, ()),
    "alpha_pattern": ({"alpha_pattern": {"q_proj": 30, "layers.1.mlp.up_proj": 2}}, lambda _: None, ()),
    "rank_pattern": ({"rank_pattern": {"v_proj": 2, "down_proj": 7}, "use_rslora": True}, lambda _: None, ()),
    "float alpha": ({"lora_alpha": 6.5}, lambda _: None, ()),
    "no alpha": ({}, lambda folder: _edit(folder, lora_alpha=None), ("lora_alpha is not in adapter_config.json: it is taken for 8, as peft does",)),
    "fewer layers": (
        {"layers_to_transform": [0, 1]},
        lambda folder: _edit(folder, layers_to_transform=None),
        ("target_modules names q_proj, which has no tensors in 1 of 3 blocks: 2",),
    ),
}


@pytest.mark.parametrize("row", CARRIED.values(), ids=CARRIED)
def test_what_ollama_would_serve_wrong_answers_as_transformers_does(
    repo: Repo, tiny_models: Mapping[str, Tiny], real_server: OllamaServer, row: tuple[dict[str, Any], Callable[[Path], Any], Sequence[str]]
) -> None:
    config, edit, warned = row
    (repo.path / "base.gguf").write_bytes(tiny_models["llama"].gguf.read_bytes())
    _, answer, _ = tell_apart(make_model("llama", repo.path / "model"), repo.path / "mine", **{"target_modules": list(ALL_LINEAR), **config})
    edit(repo.path / "mine")
    result = repo.doit("package:m")
    assert result.code == 0, result.out
    for warning in warned:
        assert f"   m: warning: mine: {warning}" in result.out.splitlines()
    assert ("warning" in result.out) is bool(warned)
    assert ollama_answer(real_server, repo.path / "base.gguf", repo.path / "build/m/adapter.gguf") == answer
    assert real_server.version() == "0.9.3"
