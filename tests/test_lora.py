"""An adapter on its way to served weights: checked against the base, permuted as the base's file is, merged or written as a GGUF LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from safetensors.numpy import save_file

import tiny_base
from conftest import Repo
from ollamake.errors import BuildError
from ollamake.lora import quants
from ollamake.lora.architecture import read_architecture
from ollamake.lora.gguf_file import read_head
from ollamake.lora.gguf_lora import read_gguf_lora, write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.peft_config import trained_on_quantized

RANK, ALPHA = 4, 12
MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": False, "modules_to_save": None}


def adapter_tensors() -> dict[str, NDArray[np.float32]]:
    chance = np.random.default_rng(7)
    tensors = {}
    for layer in range(tiny_base.LAYERS):
        for module, tensor in MODULES.items():
            rows, columns = tiny_base.SHAPES[tensor]
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = chance.standard_normal((RANK, columns), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = chance.standard_normal((rows, RANK), dtype=np.float32)
    return tensors


def write_adapter(folder: Path, tensors: dict[str, Any], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def row_of_file(row: int, heads: int, rows: int) -> int:
    """Where llama.cpp keeps a row of q or k: in each head, the two halves that are rotated together lie side by side."""
    size = rows // heads
    head, place = divmod(row, size)
    half, number = divmod(place, size // 2)
    return head * size + number * 2 + half


def expected_delta(module: str, layer: int, scale: float) -> NDArray[np.float32]:
    tensors = adapter_tensors()
    name = f"base_model.model.model.layers.{layer}.{module}"
    delta = scale * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    heads = {"self_attn.q_proj": tiny_base.HEADS, "self_attn.k_proj": tiny_base.KV_HEADS}.get(module)
    if heads is None:
        return delta
    permuted = np.empty_like(delta)
    for row in range(len(delta)):
        permuted[row_of_file(row, heads, len(delta))] = delta[row]
    return permuted


def weights_of(path: Path) -> dict[str, NDArray[np.float32]]:
    reader = gguf.GGUFReader(path)
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32) for tensor in reader.tensors}


def test_the_head_is_what_the_reference_reader_sees(tiny_base: Path) -> None:
    head, reference = read_head(tiny_base), gguf.GGUFReader(tiny_base)
    for key, value in head.keys.items():
        assert reference.fields[key].contents() == value, key
    left_out = set(reference.fields) - set(head.keys)
    assert left_out == {
        "GGUF.version",
        "GGUF.tensor_count",
        "GGUF.kv_count",
        *(f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type")),
    }
    whole = read_head(tiny_base, with_arrays=True)
    assert whole.keys == {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert head.keys["general.languages"] == ["en", "de"]
    assert head.count("block_count") == 2
    for tensor, seen in zip(head.tensors, reference.tensors, strict=True):
        assert (tensor.name, list(tensor.shape), tensor.type) == (seen.name, seen.shape.tolist(), seen.tensor_type)
        assert head.data_start + tensor.offset == seen.data_offset


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>", "not a GGUF file: it begins with b'<!DO'"),
        (b"GGUF\x01\0\0\0" + bytes(16), "a damaged GGUF file: version 1, where 2 or 3 is known"),
        (b"GGUF\x03\0\0\0\x01", "a damaged GGUF file: unpack_from requires"),
        (b"", "can't be read: cannot mmap an empty file\n  fix: fetch the file again"),
    ],
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(BuildError) as caught:
        read_head(path)
    assert f"{path}: {said}" in str(caught.value)


@pytest.mark.parametrize("length", [100, 1_000, 8_000, 60_000])
def test_a_cut_gguf_is_refused_and_not_merged(tmp_path: Path, tiny_base: Path, length: int) -> None:
    base, adapter = tmp_path / "cut.gguf", write_adapter(tmp_path / "adapter", adapter_tensors())
    base.write_bytes(tiny_base.read_bytes()[:length])

    def merge() -> None:
        architecture = read_architecture(base)
        write_merged_gguf(base, architecture.head, read_peft_adapter(adapter, architecture), "f16", tmp_path / "merged.gguf")

    with pytest.raises(BuildError, match=r"cut\.gguf"):
        merge()


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_1, Type.Q5_0])
@pytest.mark.parametrize(("weights_type", "tolerance"), [("f16", 0.02), ("q8_0", 0.4)])
def test_merged_weights_are_base_plus_permuted_delta(tmp_path: Path, kind: Type, weights_type: str, tolerance: float) -> None:
    base, target = tmp_path / "base.gguf", tmp_path / "merged.gguf"
    tiny_base.write_tiny_base(base, kind=kind)
    architecture = read_architecture(base)
    adapter = read_peft_adapter(write_adapter(tmp_path / "adapter", adapter_tensors()), architecture)
    write_merged_gguf(base, architecture.head, adapter, weights_type, target)
    before, after = weights_of(base), weights_of(target)
    assert list(before) == list(after)
    for layer in range(tiny_base.LAYERS):
        for module, tensor in MODULES.items():
            name = f"blk.{layer}.{tensor}.weight"
            delta = expected_delta(module, layer, ALPHA / RANK)
            assert np.abs(before.pop(name) + delta - after[name]).max() < tolerance, name
            assert np.abs(delta).max() > 10 * tolerance
    for name, untouched in before.items():
        assert np.array_equal(untouched, after[name]), name
    old, new = gguf.GGUFReader(base), gguf.GGUFReader(target)
    assert {key: field.contents() for key, field in old.fields.items()} == {key: field.contents() for key, field in new.fields.items()}


def test_both_ways_to_quantize_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    libgguf = pytest.importorskip("libgguf", reason="libgguf has no wheel for this machine: then there is one way only")
    weights = np.random.default_rng(3).standard_normal((8, 256), dtype=np.float32)
    for kind in (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K):  # of the most common bases; only read
        data = memoryview(libgguf.quantize_rows(weights, int(kind))).cast("B")
        with monkeypatch.context() as slow:
            read = quants.dequantized(data, kind, 8)
            slow.setattr(quants, "libgguf", None)
            assert np.array_equal(quants.dequantized(data, kind, 8), read)
    for kind in (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.F16, Type.F32):
        with monkeypatch.context() as fast:
            data = bytes(quants.quantized(weights, kind))
            read = quants.dequantized(memoryview(data), kind, 8)
            fast.setattr(quants, "libgguf", None)
            assert bytes(quants.quantized(weights, kind)) == data
            assert np.array_equal(quants.dequantized(memoryview(data), kind, 8), read)


@pytest.mark.parametrize(("config", "scale"), [({}, ALPHA / RANK), ({"use_rslora": True}, ALPHA / RANK**0.5)])
def test_a_gguf_lora_has_b_permuted_and_a_left_alone(tmp_path: Path, tiny_base: Path, config: dict[str, Any], scale: float) -> None:
    architecture = read_architecture(tiny_base)
    folder = write_adapter(tmp_path / "adapter", adapter_tensors(), **config)
    write_gguf_lora(read_peft_adapter(folder, architecture), architecture, tmp_path / "lora.gguf")
    reader = gguf.GGUFReader(tmp_path / "lora.gguf")
    facts = {key: reader.fields[key].contents() for key in ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha")}
    assert facts == {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": ALPHA}
    tensors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    for module, name in MODULES.items():
        a, b = tensors[f"blk.1.{name}.weight.lora_a"], tensors[f"blk.1.{name}.weight.lora_b"]
        assert np.array_equal(a, adapter_tensors()[f"base_model.model.model.layers.1.{module}.lora_A.weight"])
        assert np.allclose(ALPHA / RANK * b @ a, expected_delta(module, 1, scale), atol=1e-4)


def test_served_weights_are_the_same_bytes_twice(tmp_path: Path, tiny_base: Path) -> None:
    architecture = read_architecture(tiny_base)
    adapter = read_peft_adapter(write_adapter(tmp_path / "adapter", adapter_tensors()), architecture)
    for name in ("one", "two"):
        write_gguf_lora(adapter, architecture, tmp_path / f"{name}.lora")
        write_merged_gguf(tiny_base, architecture.head, adapter, "q8_0", tmp_path / f"{name}.merged")
    assert (tmp_path / "one.lora").read_bytes() == (tmp_path / "two.lora").read_bytes()
    assert (tmp_path / "one.merged").read_bytes() == (tmp_path / "two.merged").read_bytes()


Q = "base_model.model.model.layers.0.self_attn.q_proj"
MALFORMED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "DoRA": ({f"{Q}.lora_magnitude_vector": np.ones(64, np.float32)}, {}, f"tensor '{Q}.lora_magnitude_vector' is none of a plain LoRA's"),
    "DoRA flag": ({}, {"use_dora": True}, "use_dora is True, which a server of Ollama does not carry"),
    "bias": ({f"{Q}.bias": np.ones(64, np.float32)}, {"bias": "all"}, "bias is 'all', which a server of Ollama does not carry"),
    "modules_to_save": (
        {"base_model.model.model.norm.weight": np.ones(64, np.float32)},
        {"modules_to_save": ["norm"]},
        "tensor 'base_model.model.model.norm.weight' is none of a plain LoRA's",
    ),
    "LoRA on lm_head": (
        {
            "base_model.model.lm_head.lora_A.weight": np.ones((4, 64), np.float32),
            "base_model.model.lm_head.lora_B.weight": np.ones((300, 4), np.float32),
        },
        {},
        "tensor 'base_model.model.lm_head.lora_A.weight': the base has no module 'lm_head' that takes a LoRA",
    ),
    "A without B": ({f"{Q}.lora_B.weight": None}, {}, f"tensor '{Q}.lora_A.weight' has no lora_B beside it"),
    "more layers than the base": (
        {
            "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": np.ones((4, 64), np.float32),
            "base_model.model.model.layers.9.mlp.up_proj.lora_B.weight": np.ones((96, 4), np.float32),
        },
        {},
        "the base has no module 'model.layers.9.mlp.up_proj' that takes a LoRA",
    ),
    "wrong size": (
        {f"{Q}.lora_A.weight": np.ones((4, 48), np.float32)},
        {},
        f"tensors '{Q}.lora_A.weight' [4, 48] and '{Q}.lora_B.weight' [64, 4] do not fit blk.0.attn_q.weight of the base, 64 x 64",
    ),
    "NaN": ({f"{Q}.lora_A.weight": np.full((4, 64), np.nan, np.float32)}, {}, f"tensor '{Q}.lora_A.weight' holds NaN or infinite numbers"),
    "LoHa": ({f"{Q}.hada_w1_a": np.ones((4, 4), np.float32)}, {"peft_type": "LOHA"}, "peft_type is 'LOHA', not 'LORA'"),
    "no alpha": ({}, {"lora_alpha": None}, "lora_alpha is None, not a number other than 0 that a float32 holds"),
    "alpha beyond float32": ({}, {"lora_alpha": 1e308}, "lora_alpha is 1e+308, not a number other than 0 that a float32 holds"),
    "scale beyond float32": (
        {},
        {"lora_alpha": 1e-30, "alpha_pattern": {"q_proj": 1e30}},
        "q_proj.lora_A.weight' has scale 2.5e+29, which a float32 can't hold",
    ),
    "alpha 0": ({}, {"lora_alpha": 0}, "lora_alpha is 0, not a number other than 0 that a float32 holds"),
    "alpha pattern": (
        {},
        {"alpha_pattern": {"q_proj": 0}},
        "alpha_pattern is {'q_proj': 0}, not modules with numbers other than 0 that a float32 holds",
    ),
    "rank pattern": ({}, {"rank_pattern": {"(q": 2}}, "rank_pattern is {'(q': 2}, not modules with whole numbers above 0"),
    "rank of a pattern": ({}, {"rank_pattern": {"q_proj": 2}}, f"tensor '{Q}.lora_A.weight' has rank 4, where the config has r 2"),
    "rank above the matrix's size": (
        {f"{Q}.lora_A.weight": np.ones((65, 64), np.float32), f"{Q}.lora_B.weight": np.ones((64, 65), np.float32)},
        {"r": 65},
        f"tensor '{Q}.lora_A.weight' has rank 65, where blk.0.attn_q.weight of the base, 64 x 64, takes 1 to 64",
    ),
    "LoRA-GA": ({}, {"init_lora_weights": "lora_ga"}, "init_lora_weights is 'lora_ga', which changes the base's own weights"),
    "infinite alpha": ({}, {"lora_alpha": float("inf")}, "lora_alpha is inf, not a number other than 0 that a float32 holds"),
    "rank of the config": ({}, {"r": 8}, "has rank 4, where the config has r 8, and 13 more tensors"),
    "PiSSA": ({}, {"init_lora_weights": "pissa_niter_16"}, "init_lora_weights is 'pissa_niter_16', which changes the base's own weights"),
    "fan_in_fan_out": ({}, {"fan_in_fan_out": True}, "fan_in_fan_out is True, which a server of Ollama does not carry"),
    "one layer twice": (
        {f"{Q}.lora_A.default.weight": np.ones((4, 64), np.float32)},
        {},
        f"tensors '{Q}.lora_A.default.weight' and '{Q}.lora_A.weight' are of one layer",
    ),
    "LoRA on a norm": (
        {
            "base_model.model.model.layers.0.input_layernorm.lora_A.weight": np.ones((4, 64), np.float32),
            "base_model.model.model.layers.0.input_layernorm.lora_B.weight": np.ones((64, 4), np.float32),
        },
        {},
        "the base has no module 'model.layers.0.input_layernorm' that takes a LoRA",
    ),
    "no tensor": (dict.fromkeys(adapter_tensors()), {}, "adapter_model.safetensors holds no tensor"),
}


@pytest.mark.parametrize(("tensors", "config", "said"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_adapter_is_refused_by_the_name_of_its_tensor(
    tmp_path: Path, tiny_base: Path, tensors: dict[str, Any], config: dict[str, Any], said: str
) -> None:
    changed = {name: tensor for name, tensor in {**adapter_tensors(), **tensors}.items() if tensor is not None}
    folder = write_adapter(tmp_path / "adapter", changed, **config)
    with pytest.raises(BuildError) as caught:
        read_peft_adapter(folder, read_architecture(tiny_base))
    assert said in str(caught.value)
    assert str(caught.value).splitlines()[-1].startswith("  fix: ")


@pytest.mark.parametrize(("dtype", "bits"), [("F32", 0), ("F16", 14), ("BF16", 16)])
def test_an_adapter_in_half_precision_is_read_as_it_is(tmp_path: Path, tiny_base: Path, dtype: str, bits: int) -> None:
    folder = write_adapter(tmp_path / "adapter", adapter_tensors())
    exact = {name: (tensor.view(np.uint32) >> bits << bits).view(np.float32) for name, tensor in adapter_tensors().items()}
    head, data = {}, b""
    for name, tensor in exact.items():  # safetensors' own numpy writer knows no bfloat16
        content = _in(dtype, tensor)
        head[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(head).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (pair, *_) = read_peft_adapter(folder, read_architecture(tiny_base)).pairs
    assert pair.tensor == "blk.0.attn_q.weight"
    assert np.array_equal(pair.a, exact[f"{Q}.lora_A.weight"])


def _in(dtype: str, tensor: NDArray[np.float32]) -> bytes:
    if dtype == "BF16":
        return (tensor.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return tensor.astype({"F32": np.float32, "F16": np.float16}[dtype]).tobytes()


@pytest.mark.parametrize("use_rslora", [False, True])
def test_ranks_and_alphas_of_patterns_are_carried_in_the_scale(tmp_path: Path, tiny_base: Path, use_rslora: bool) -> None:
    tensors = adapter_tensors()
    for layer in (0, 1):  # of rank 2
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = tensors[f"{name}.lora_A.weight"][:2]
        tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(tensors[f"{name}.lora_B.weight"][:, :2])
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 5, r"layers\.\d\.mlp\..*": 7.5, "gate_proj": 9}}
    architecture = read_architecture(tiny_base)
    adapter = read_peft_adapter(write_adapter(tmp_path / "adapter", tensors, use_rslora=use_rslora, **patterns), architecture)
    scales = {pair.tensor: pair.scale * (pair.rank**0.5 if use_rslora else pair.rank) for pair in adapter.pairs}
    wanted = {"blk.0.attn_q": 12, "blk.1.attn_q": 5, "blk.0.attn_k": 12, "blk.1.ffn_gate": 7.5, "blk.0.ffn_down": 7.5}
    assert {name: scales[f"{name}.weight"] for name in wanted} == pytest.approx(wanted)
    write_gguf_lora(adapter, architecture, tmp_path / "lora.gguf")
    again = read_gguf_lora(tmp_path / "lora.gguf", architecture)
    for one, other in zip(adapter.pairs, again.pairs, strict=True):  # the file has one alpha: what is carried is the product
        assert np.allclose(one.scale * one.b @ one.a, other.scale * other.b @ other.a, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "evidence"),
    [
        ({"base_model_name_or_path": "unsloth/llama-3-8b-Instruct-bnb-4bit"}, "base_model_name_or_path is 'unsloth/llama-3-8b-Instruct-bnb-4bit'"),
        ({"base_model_name_or_path": "unsloth/Llama-3.2-3B-unsloth-bnb-4bit"}, "base_model_name_or_path is 'unsloth/Llama-3.2-3B-unsloth-bnb-4bit'"),
        ({"base_model_name_or_path": "TheBloke/Mistral-7B-v0.1-GPTQ"}, "base_model_name_or_path is 'TheBloke/Mistral-7B-v0.1-GPTQ'"),
        ({"base_model_name_or_path": "models/llama_awq"}, "base_model_name_or_path is 'models/llama_awq'"),
        ({"use_qalora": True, "base_model_name_or_path": "x"}, "use_qalora is true"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"base_model_name_or_path": "SmolLM2-135M-Instruct.Q4_1.gguf", "init_lora_weights": True}, None),
        ({"base_model_name_or_path": "meta-llama/Llama-3.2-3B-Instruct"}, None),
        ({"base_model_name_or_path": "hawq/awqward-8bits"}, "base_model_name_or_path is 'hawq/awqward-8bits'"),
        ({"base_model_name_or_path": "hawq/awqward"}, None),
        ({"base_model_name_or_path": None}, None),
    ],
)
def test_an_adapter_that_was_trained_on_quantized_weights_tells_so(config: dict[str, Any], evidence: str | None) -> None:
    assert trained_on_quantized(config) == evidence


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_config_that_can_not_be_read_has_a_fix(tmp_path: Path, tiny_base: Path, content: str) -> None:
    folder = write_adapter(tmp_path / "adapter", adapter_tensors())
    (folder / "adapter_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(BuildError, match=r"adapter_config\.json: .*\n  fix: fetch the adapter again"):
        read_peft_adapter(folder, read_architecture(tiny_base))


def test_numbers_that_are_no_weights_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    tensors = adapter_tensors()
    folder = write_adapter(tmp_path / "adapter", {**tensors, f"{Q}.lora_A.weight": np.ones((4, 64), np.int8)})
    with pytest.raises(BuildError, match=r"tensor '.*q_proj.lora_A.weight' is I8, not floats"):
        read_peft_adapter(folder, read_architecture(tiny_base))


def test_a_pickle_or_a_cut_file_is_never_read(tmp_path: Path, tiny_base: Path) -> None:
    architecture, folder = read_architecture(tiny_base), write_adapter(tmp_path / "adapter", adapter_tensors())
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BuildError, match="not a whole safetensors file"):
        read_peft_adapter(folder, architecture)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(BuildError) as caught:
        read_peft_adapter(folder, architecture)
    said, fix = str(caught.value).splitlines()
    assert said == f"{folder}/adapter_model.bin: a pickle, which may run any program when it is loaded: it is never loaded"
    assert fix.startswith("  fix: convert it; this loads numbers alone: python -c 'import ")
    assert fix.endswith(f" {folder}/adapter_model.bin {folder}/adapter_model.safetensors")
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(BuildError, match=r"adapter_model\.safetensors: no such file\n  fix: give a PEFT directory"):
        read_peft_adapter(folder, architecture)


def test_an_unknown_architecture_is_refused_by_name_before_training(repo: Repo) -> None:
    tiny_base.write_tiny_base(repo.path / "base.gguf", architecture="mamba")
    result = repo.doit()
    assert result.code == 1
    said = "base.gguf: architecture 'mamba' is not known\n  fix: use a base of: llama (Llama, Mistral, SmolLM), qwen2 (Qwen 2 and 2.5), qwen3"
    assert f"\ntrain:legal failed:\n{said}" in result.out
    assert repo.trainings == []


def test_an_adapter_that_is_there_is_served_without_training(repo: Repo) -> None:
    write_adapter(repo.path / "mine", adapter_tensors())
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    assert repo.doit("register:legal").ran == ["package:legal", "register:legal"]
    assert repo.trainings == []
    write_adapter(repo.path / "mine", adapter_tensors(), lora_alpha=3)
    assert repo.doit("register:legal").ran == ["package:legal", "register:legal"]


def test_a_build_that_finds_a_pickle_says_how_it_is_converted(repo: Repo) -> None:
    (write_adapter(repo.path / "mine", adapter_tensors()) / "adapter_model.safetensors").rename(repo.path / "mine/adapter_model.bin")
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    result = repo.doit("register:legal")
    assert result.code == 1
    assert (
        "\npackage:legal failed:\nmine/adapter_model.bin: a pickle, which may run any program when it is loaded: it is never loaded\n" in result.out
    )
    assert result.out.count(" mine/adapter_model.bin mine/adapter_model.safetensors\n") == 1
