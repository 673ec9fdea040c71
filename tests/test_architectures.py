"""The architectures that are known: what their tensors are called, and which rows change places. What they compute is in test_live_architectures.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from conftest import Repo
from ollamake.bases.hf_folder import hf_folder
from ollamake.errors import BuildError
from ollamake.lora.architecture import KNOWN, read_architecture
from ollamake.lora.read import read_adapter
from test_lora import write_adapter

HIDDEN, HEADS, KV_HEADS, INNER, BLOCKS = 32, 4, 2, 48, 2
SPLIT = {
    "self_attn.q_proj": ("attn_q", HIDDEN, HIDDEN),
    "self_attn.k_proj": ("attn_k", HIDDEN // 2, HIDDEN),
    "self_attn.v_proj": ("attn_v", HIDDEN // 2, HIDDEN),
    "self_attn.o_proj": ("attn_output", HIDDEN, HIDDEN),
    "mlp.gate_proj": ("ffn_gate", INNER, HIDDEN),
    "mlp.up_proj": ("ffn_up", INNER, HIDDEN),
    "mlp.down_proj": ("ffn_down", HIDDEN, INNER),
}
FUSED = {
    "self_attn.qkv_proj": ("attn_qkv", 2 * HIDDEN, HIDDEN),
    "self_attn.o_proj": SPLIT["self_attn.o_proj"],
    "mlp.gate_up_proj": ("ffn_up", 2 * INNER, HIDDEN),
    "mlp.down_proj": SPLIT["mlp.down_proj"],
}
LAYERS = {name: FUSED if name == "phi3" else SPLIT for name in KNOWN}


def write_base(path: Path, architecture: str, *, has_output: bool = False) -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(BLOCKS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    for block in range(BLOCKS):
        for name, rows, columns in LAYERS.get(architecture, SPLIT).values():
            writer.add_tensor(f"blk.{block}.{name}.weight", np.zeros((rows, columns), np.float32))
    for name in ("token_embd", *(["output"] if has_output else [])):
        writer.add_tensor(f"{name}.weight", np.zeros((40, HIDDEN), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lora(architecture: str, inside: str = "base_model.model.model.") -> dict[str, np.ndarray]:
    chance = np.random.default_rng(5)
    tensors = {}
    for block in range(BLOCKS):
        for part, (_, rows, columns) in LAYERS[architecture].items():
            tensors[f"{inside}layers.{block}.{part}.lora_A.weight"] = chance.standard_normal((4, columns), np.float32)
            tensors[f"{inside}layers.{block}.{part}.lora_B.weight"] = chance.standard_normal((rows, 4), np.float32)
    return tensors


@pytest.mark.parametrize("name", KNOWN)
def test_every_linear_layer_has_its_tensor_and_q_and_k_of_llama_alone_are_permuted(tmp_path: Path, name: str) -> None:
    architecture = read_architecture(write_base(tmp_path / "base.gguf", name))
    tensors = lora(name)
    adapter = read_adapter(write_adapter(tmp_path / "adapter", tensors), architecture)
    assert adapter.warnings == ()
    pairs = {pair.tensor: pair for pair in adapter.pairs}
    assert len(pairs) == BLOCKS * len(LAYERS[name])
    for block in range(BLOCKS):
        for part, (tensor, _, _) in LAYERS[name].items():
            b = tensors[f"base_model.model.model.layers.{block}.{part}.lora_B.weight"]
            is_as_it_was = np.array_equal(pairs[f"blk.{block}.{tensor}.weight"].b, b)
            assert is_as_it_was is not (name == "llama" and tensor in {"attn_q", "attn_k"}), part


def test_phi3_has_no_layers_of_split_attention(tmp_path: Path) -> None:
    architecture = read_architecture(write_base(tmp_path / "base.gguf", "phi3"))
    assert architecture.layers == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
    with pytest.raises(BuildError, match=r"the base has no module 'model.layers.0.mlp.gate_proj' that takes a LoRA"):
        read_adapter(write_adapter(tmp_path / "adapter", lora("llama")), architecture)


@pytest.mark.parametrize("inside", ["base_model.model.model.language_model.", "base_model.model.language_model.model."])
def test_the_language_model_of_one_that_sees_is_found_under_either_name(tmp_path: Path, inside: str) -> None:
    architecture = read_architecture(write_base(tmp_path / "base.gguf", "gemma3"))
    adapter = read_adapter(write_adapter(tmp_path / "adapter", lora("gemma3", inside), target_modules=["q_proj", "up_proj"]), architecture)
    assert len(adapter.pairs) == BLOCKS * len(SPLIT)
    assert adapter.warnings == ()
    tower = "base_model.model.model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj"
    sees = {f"{tower}.lora_A.weight": np.ones((4, 32), np.float32), f"{tower}.lora_B.weight": np.ones((32, 4), np.float32)}
    with pytest.raises(BuildError, match=f"tensor '{tower}.lora_A.weight': the base has no module"):
        read_adapter(write_adapter(tmp_path / "adapter", {**lora("gemma3", inside), **sees}), architecture)


def test_lm_head_takes_a_lora_where_the_base_has_an_output_layer_of_its_own(tmp_path: Path) -> None:
    head = {
        "base_model.model.lm_head.lora_A.weight": np.ones((4, HIDDEN), np.float32),
        "base_model.model.lm_head.lora_B.weight": np.ones((40, 4), np.float32),
    }
    copies = {  # as peft saves them beside it
        "base_model.model.lm_head.base_layer.weight": np.zeros((40, HIDDEN), np.float32),
        "base_model.model.model.embed_tokens.weight": np.zeros((40, HIDDEN), np.float32),
    }
    folder = write_adapter(tmp_path / "adapter", {**lora("llama"), **head, **copies})
    adapter = read_adapter(folder, read_architecture(write_base(tmp_path / "own.gguf", "llama", has_output=True)))
    assert "output.weight" in {pair.tensor for pair in adapter.pairs}
    assert [warning.what for warning in adapter.warnings] == sorted(copies)
    with pytest.raises(BuildError) as caught:
        read_adapter(folder, read_architecture(write_base(tmp_path / "tied.gguf", "llama")))
    assert "the base has no module 'lm_head' that takes a LoRA" in str(caught.value)
    assert "train without lm_head: in this base, embedding and output layer are one matrix" in str(caught.value)


def test_a_vocabulary_that_has_grown_is_no_copy(tmp_path: Path) -> None:
    grown = {"base_model.model.model.embed_tokens.weight": np.zeros((44, HIDDEN), np.float32)}
    save_file({**lora("llama"), **grown}, write_adapter(tmp_path / "adapter", {}) / "adapter_model.safetensors")
    with pytest.raises(BuildError, match=r"tensor 'base_model.model.model.embed_tokens.weight' is none of a plain LoRA's"):
        read_adapter(tmp_path / "adapter", read_architecture(write_base(tmp_path / "base.gguf", "llama")))


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        read_architecture(write_base(tmp_path / "base.gguf", "starcoder2"))
    said, fix = str(caught.value).splitlines()
    assert said == f"{tmp_path / 'base.gguf'}: architecture 'starcoder2' is not known"
    assert fix == (
        "  fix: use a base of: llama (Llama, Mistral, SmolLM), qwen2 (Qwen 2 and 2.5), qwen3 (Qwen 3), gemma2 (Gemma 2), gemma3 (Gemma 3), "
        "phi3 (Phi 3 and 4)"
    )


def test_a_base_that_is_no_llama_is_trained_by_its_name_on_hugging_face(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base.gguf", "qwen2")
    with pytest.raises(BuildError) as caught:
        hf_folder(base, "sha256:0", tmp_path / "cache")
    assert "a base of architecture 'qwen2' is trained on its weights from Hugging Face, not on the GGUF's" in str(caught.value)
    assert "(`hf: OWNER/NAME`)" in str(caught.value)


def test_gemma3_is_served_merged_alone(repo: Repo) -> None:
    write_base(repo.path / "base.gguf", "gemma3")
    write_adapter(repo.path / "mine", lora("gemma3"))
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    assert repo.doit("package:legal").ran == ["package:legal"]
    assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] == "merged"
    repo.replace("    adapter: mine\n", "    adapter: mine\n    serve: {weights: adapter}\n")
    result = repo.doit("package:legal")
    assert result.code == 1
    assert (
        "\npackage:legal failed:\nbase.gguf: Ollama's engine for gemma3 takes no LoRA: it would create the model, and fail to load it\n"
        "  fix: write `weights: merged` into the model's `serve:`\n"
    ) in result.out


def test_a_base_is_read_once_as_long_as_it_stays_the_same(tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    path.write_bytes(tiny_base.read_bytes())
    first = read_architecture(path)
    assert read_architecture(path) is first
    path.write_bytes(tiny_base.read_bytes())
    assert read_architecture(path) is not first
    path.unlink()
    with pytest.raises(BuildError, match="can't be read"):
        read_architecture(path)
