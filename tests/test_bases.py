"""The base's folder for transformers, as files: right weights at right names, whole or not at all. What transformers makes of it: test_live_bases."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from safetensors import deserialize
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import tiny_base
from ollamake.bases.hf_config import llama3_factors
from ollamake.bases.hf_folder import hf_folder
from ollamake.bases.hf_weights import Weights
from ollamake.bases.kept import kept_folder
from ollamake.errors import BuildError
from ollamake.lora.architecture import read_architecture
from test_lora import MODULES, row_of_file

DIGEST = "sha256:12"


def made(tmp_path: Path, **how: Any) -> tuple[Path, Path]:
    """The GGUF and its folder."""
    base = tmp_path / "base.gguf"
    tiny_base.write_tiny_base(base, **how)
    return base, hf_folder(base, DIGEST, tmp_path / "cache")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", [Type.F32, Type.Q8_0, Type.Q4_1])
def test_weights_are_those_of_the_gguf_with_q_and_k_as_transformers_has_them(tmp_path: Path, kind: Type) -> None:
    base, folder = made(tmp_path, kind=kind)
    stored = {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(base).tensors}
    weights = load_file(folder / "model.safetensors")
    for layer in range(tiny_base.LAYERS):
        for module, tensor in MODULES.items():
            ours, theirs = weights.pop(f"model.layers.{layer}.{module}.weight"), stored.pop(f"blk.{layer}.{tensor}.weight")
            heads = {"self_attn.q_proj": tiny_base.HEADS, "self_attn.k_proj": tiny_base.KV_HEADS}.get(module)
            for row in range(len(ours)):
                assert np.array_equal(ours[row], theirs[row if heads is None else row_of_file(row, heads, len(ours))]), (module, row)
        assert np.array_equal(weights.pop(f"model.layers.{layer}.input_layernorm.weight"), stored.pop(f"blk.{layer}.attn_norm.weight"))
        assert np.array_equal(weights.pop(f"model.layers.{layer}.post_attention_layernorm.weight"), stored.pop(f"blk.{layer}.ffn_norm.weight"))
    assert np.array_equal(weights.pop("model.embed_tokens.weight"), stored.pop("token_embd.weight"))
    assert np.array_equal(weights.pop("model.norm.weight"), stored.pop("output_norm.weight"))
    assert not weights
    assert not stored


@pytest.mark.parametrize(("kind", "name"), [(Type.F16, "float16"), (Type.BF16, "bfloat16")])
def test_half_precision_stays_as_it_is(tmp_path: Path, kind: Type, name: str) -> None:
    base, folder = made(tmp_path, kind=kind)
    assert read_json(folder / "config.json")["dtype"] == name
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(base).tensors}
    written: Any = dict(deserialize((folder / "model.safetensors").read_bytes()))  # type: ignore[no-untyped-call]  # safetensors types its other calls
    up = written["model.layers.1.mlp.up_proj.weight"]
    assert (up["dtype"], up["shape"]) == (kind.name, [tiny_base.INNER, tiny_base.HIDDEN])
    assert bytes(up["data"]) == stored["blk.1.ffn_up.weight"].tobytes()
    assert written["model.norm.weight"]["dtype"] == "F32"


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.Q8_0])
def test_a_base_that_is_large_is_written_in_bfloat16_and_in_pieces(tmp_path: Path, kind: Type) -> None:
    base, folder = made(tmp_path, kind=kind)
    architecture = read_architecture(base)
    for size, piece in (("small", 1), ("large", 1000), ("large", 1 << 24)):
        weights = Weights(base, architecture, large=1000 if size == "large" else 10**9, piece=piece)
        weights.write(tmp_path / f"{size}.safetensors")
        assert (tmp_path / f"{size}.safetensors").stat().st_size > weights.size
        written: Any = dict(deserialize((tmp_path / f"{size}.safetensors").read_bytes()))  # type: ignore[no-untyped-call]  # safetensors types its other calls
        whole: Any = dict(deserialize((folder / "model.safetensors").read_bytes()))  # type: ignore[no-untyped-call]  # the same
        assert weights.dtype == {Type.F16: "float16"}.get(kind, "bfloat16" if size == "large" else "float32")
        for name, tensor in whole.items():
            if size == "large" and kind is not Type.F16 and len(tensor["shape"]) == 2:
                assert written[name]["dtype"] == "BF16"
                exact = np.frombuffer(tensor["data"], np.float32).reshape(tensor["shape"])
                assert bytes(written[name]["data"]) == gguf.quantize(exact, Type.BF16).tobytes(), name
            else:
                assert written[name] == tensor, name


def test_the_config_says_what_the_gguf_says(tmp_path: Path) -> None:
    _, folder = made(tmp_path)
    config = read_json(folder / "config.json")
    wanted = {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 256,
        "dtype": "float32",
        "eos_token_id": 257,
        "head_dim": 16,
        "hidden_size": tiny_base.HIDDEN,
        "intermediate_size": tiny_base.INNER,
        "max_position_embeddings": 4096,
        "num_attention_heads": tiny_base.HEADS,
        "num_hidden_layers": tiny_base.LAYERS,
        "num_key_value_heads": tiny_base.KV_HEADS,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        "vocab_size": tiny_base.VOCABULARY,
    }
    assert {key: config[key] for key in wanted} == wanted
    assert read_json(folder / "generation_config.json") == {"_from_model_config": True, "bos_token_id": 256, "eos_token_id": 257}


def test_an_output_of_its_own_is_not_the_embedding(tmp_path: Path) -> None:
    output = np.ones((tiny_base.VOCABULARY, tiny_base.HIDDEN), np.float32)
    _, folder = made(tmp_path, extra={"output.weight": output})
    assert not read_json(folder / "config.json")["tie_word_embeddings"]
    assert np.array_equal(load_file(folder / "model.safetensors")["lm_head.weight"], output)


def test_the_long_context_of_llama_3_is_found_in_its_factors(tmp_path: Path) -> None:
    factors = llama3_factors(32.0, theta=10_000.0, size=16)
    assert (factors[0], factors[-1]) == (1, 32)
    assert 1 < factors[6] < 32
    _, folder = made(tmp_path, extra={"rope_freqs.weight": factors})
    scaling = {"rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
    assert read_json(folder / "config.json")["rope_scaling"] == scaling
    assert "rope_freqs.weight" not in load_file(folder / "model.safetensors")


def test_the_tokenizer_reads_and_writes_text_again(tmp_path: Path) -> None:
    _, folder = made(tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<|im_start|>the Größe\n½<|im_end|>"
    ids = tokenizer.encode(text).ids
    assert (ids[0], ids[-1]) == (256, 257)
    assert 258 in ids  # "he"
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    config = read_json(folder / "tokenizer_config.json")
    assert (config["bos_token"], config["eos_token"], config["pad_token"]) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert (config["add_bos_token"], config["model_max_length"], config["chat_template"]) == (False, 4096, tiny_base.CHATML)


UNLIKE: dict[str, tuple[dict[str, Any], str]] = {
    "another tensor": ({"blk.0.attn_q.bias": np.ones(64, np.float32)}, "tensor 'blk.0.attn_q.bias' is none that is known here"),
    "other factors": ({"rope_freqs.weight": np.array([1, 2, 3, 4, 5, 6, 7, 8], np.float32)}, "tensor 'rope_freqs.weight' is none of Llama 3's"),
}


@pytest.mark.parametrize(("extra", "said"), UNLIKE.values(), ids=UNLIKE)
def test_what_would_be_another_model_is_refused_and_nothing_is_left(tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError) as caught:
        made(tmp_path, extra=extra)
    assert str(caught.value) == f"{tmp_path}/base.gguf: {said}\n  fix: {HINT}"
    assert [path for path in (tmp_path / "cache" / "bases").iterdir() if path.is_dir()] == []


HINT = "name the same base on Hugging Face beside it (`hf: OWNER/NAME`), so that the trainer loads that"


def test_a_tokenizer_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        made(tmp_path, tokenizer="rwkv")
    said = "its tokenizer is of a kind that is not known here: model 'rwkv', pre 'smollm'"
    assert str(caught.value) == f"{tmp_path}/base.gguf: {said}\n  fix: {HINT}"


def test_a_cut_gguf_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    tiny_base.write_tiny_base(base)
    base.write_bytes(base.read_bytes()[:-100])
    with pytest.raises(BuildError, match=r"it ends in the middle of tensor 'output_norm\.weight'\n  fix: fetch the file again"):
        hf_folder(base, DIGEST, tmp_path / "cache")


def test_a_folder_is_made_once_and_the_gguf_is_not_read_again(tmp_path: Path) -> None:
    base, folder = made(tmp_path)
    assert folder == tmp_path / "cache/bases/sha256-12.hf1"
    base.unlink()
    assert hf_folder(base, DIGEST, tmp_path / "cache") == folder


def test_what_a_killed_build_and_earlier_versions_left_is_removed(tmp_path: Path) -> None:
    bases = tmp_path / "cache/bases"
    for name in ("sha256-12", "sha256-12.hf0", ".sha256-12.hf1.left", "sha256-12.hf2", "sha256-34", "sha256-12.f32-1"):
        (bases / name).mkdir(parents=True)
    made(tmp_path)
    assert sorted(path.name for path in bases.iterdir() if path.is_dir()) == ["sha256-12.f32-1", "sha256-12.hf1", "sha256-12.hf2", "sha256-34"]


def test_no_half_of_a_folder_is_ever_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "one").write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    with pytest.raises(BuildError, match=r"sha256-12\.hf1 can't be written: No space left on device\n  fix: make room on the disk"):
        kept_folder(tmp_path, DIGEST, "hf", 1, size=lambda: 1, make=fail)
    assert [path for path in (tmp_path / "bases").iterdir() if path.is_dir()] == []


def test_a_disk_without_room_is_told_of_before_anything_is_written(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        pytest.fail("written all the same")

    with pytest.raises(BuildError) as caught:
        kept_folder(tmp_path, DIGEST, "hf", 1, size=lambda: 10**18, make=make)
    before, _, free = str(caught.value).partition("there to be trained, and the disk has ")
    assert before == f"{tmp_path}/bases: the base needs 1000000000.1 GB "
    assert float(free.split()[0]) == pytest.approx(shutil.disk_usage(tmp_path).free / 1e9, abs=1)  # others write to it as well


def _make(base: Path, cache: Path) -> None:
    hf_folder(base, DIGEST, cache)


def test_two_builds_may_need_the_same_folder_at_once(tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    tiny_base.write_tiny_base(base)
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_make, args=(base, tmp_path / "cache")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "cache/bases").iterdir() if path.is_dir()) == ["sha256-12.hf1"]
