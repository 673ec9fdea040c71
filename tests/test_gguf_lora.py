"""A LoRA in a GGUF file, by whichever tool: read for what it says, and refused by the name of its tensor where it is not for its base."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from conftest import Repo
from ollamake.errors import BuildError
from ollamake.lora.architecture import read_architecture
from ollamake.lora.gguf_lora import read_gguf_lora, write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.read import read_adapter
from test_lora import adapter_tensors, write_adapter

Q = "blk.0.attn_q.weight"
RIGHT = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 6.0}
# Ranks are multiples of 32, so that B can be quantized.
CHANCE = np.random.default_rng(9)
PAIR = {f"{Q}.lora_a": CHANCE.standard_normal((32, 64), np.float32), f"{Q}.lora_b": CHANCE.standard_normal((64, 32), np.float32)}


def write_lora(path: Path, keys: dict[str, Any], tensors: dict[str, Any], kind: Type = Type.F32) -> Path:
    writer = gguf.GGUFWriter(path, keys["general.architecture"])
    for key, value in keys.items():
        if isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None and key != "general.architecture":
            writer.add_string(key, value)
    for name, tensor in tensors.items():
        if tensor is not None:
            is_raw = kind is Type.F32 or tensor.dtype != np.float32 or tensor.ndim != 2
            writer.add_tensor(name, tensor if is_raw else gguf.quantize(tensor, kind), raw_dtype=None if is_raw else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_1])
def test_every_kind_of_numbers_is_read(tmp_path: Path, tiny_base: Path, kind: Type) -> None:
    path = write_lora(tmp_path / "lora.gguf", RIGHT, PAIR, kind)
    adapter = read_adapter(path, read_architecture(tiny_base))
    (pair,) = adapter.pairs
    assert (adapter.alpha, pair.tensor, pair.scale, pair.rank) == (6.0, Q, 6.0 / 32, 32)
    for matrix, side in ((pair.a, "lora_a"), (pair.b, "lora_b")):
        assert np.array_equal(matrix, gguf.dequantize(gguf.quantize(PAIR[f"{Q}.{side}"], kind), kind))


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}])
def test_a_peft_adapter_comes_back_from_the_gguf_that_is_made_of_it(tmp_path: Path, tiny_base: Path, config: dict[str, Any]) -> None:
    architecture = read_architecture(tiny_base)
    once = read_peft_adapter(write_adapter(tmp_path / "adapter", adapter_tensors(), **config), architecture)
    write_gguf_lora(once, architecture, tmp_path / "one.gguf")
    again = read_gguf_lora(tmp_path / "one.gguf", architecture)
    assert [pair.tensor for pair in once.pairs] == [pair.tensor for pair in again.pairs]
    for one, other in zip(once.pairs, again.pairs, strict=True):
        assert np.array_equal(one.a, other.a)
        assert np.allclose(one.scale * one.b, other.scale * other.b, rtol=1e-6)
    write_gguf_lora(again, architecture, tmp_path / "two.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    if not config:  # else the scale is in B, rounded once more
        for name, adapter in (("one", once), ("two", again)):
            write_merged_gguf(tiny_base, architecture.head, adapter, "q8_0", tmp_path / f"{name}.merged")
        assert (tmp_path / "one.merged").read_bytes() == (tmp_path / "two.merged").read_bytes()


MALFORMED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a whole model": ({"general.type": "model"}, {}, "a whole model, not an adapter: its general.type is 'model'"),
    "an old whole model": ({"general.type": None}, {}, "a whole model, not an adapter: its general.type is 'model'"),
    "a matrix of importance": ({"general.type": "imatrix"}, {}, "not an adapter: its general.type is 'imatrix'"),
    "a control vector": ({"adapter.type": "control_vector"}, {}, "an adapter of another kind: its adapter.type is 'control_vector', not 'lora'"),
    "no adapter type": ({"adapter.type": None}, {}, "an adapter of another kind: its adapter.type is None, not 'lora'"),
    "of another architecture": ({"general.architecture": "qwen2"}, {}, "it is for a base of architecture 'qwen2', not 'llama'"),
    "no alpha": ({"adapter.lora.alpha": None}, {}, "adapter.lora.alpha is None, not a number other than 0 that a float32 holds"),
    "alpha 0": ({"adapter.lora.alpha": 0.0}, {}, "adapter.lora.alpha is 0.0, not a number other than 0 that a float32 holds"),
    "infinite alpha": ({"adapter.lora.alpha": float("inf")}, {}, "adapter.lora.alpha is inf, not a number other than 0 that a float32 holds"),
    "aLoRA": (
        {"adapter.alora.invocation_tokens": [1, 2, 3]},
        {},
        "adapter.alora.invocation_tokens: an activated LoRA, which a server of Ollama does not carry",
    ),
    "a norm of its own": ({}, {"blk.0.attn_norm.weight": np.ones(64, np.float32)}, "tensor 'blk.0.attn_norm.weight' is none of a plain LoRA's"),
    "more layers than the base": (
        {},
        {"blk.9.attn_q.weight.lora_a": PAIR[f"{Q}.lora_a"], "blk.9.attn_q.weight.lora_b": PAIR[f"{Q}.lora_b"]},
        "tensor 'blk.9.attn_q.weight.lora_a': the base has no tensor 'blk.9.attn_q.weight' that takes a LoRA",
    ),
    "on the embedding": (
        {},
        {"token_embd.weight.lora_a": np.ones((4, 300), np.float32), "token_embd.weight.lora_b": np.ones((64, 4), np.float32)},
        "tensor 'token_embd.weight.lora_a': the base has no tensor 'token_embd.weight' that takes a LoRA",
    ),
    "A without B": ({}, {f"{Q}.lora_b": None}, f"tensor '{Q}.lora_a' has no lora_b beside it"),
    "B without A": ({}, {f"{Q}.lora_a": None}, f"tensor '{Q}.lora_b' has no lora_a beside it"),
    "wrong size": (
        {},
        {f"{Q}.lora_a": np.ones((32, 48), np.float32)},
        f"tensors '{Q}.lora_a' [32, 48] and '{Q}.lora_b' [64, 32] do not fit {Q} of the base, 64 x 64",
    ),
    "two ranks": (
        {},
        {f"{Q}.lora_a": np.ones((8, 64), np.float32)},
        f"tensors '{Q}.lora_a' [8, 64] and '{Q}.lora_b' [64, 32] do not fit {Q} of the base, 64 x 64",
    ),
    "rank above the matrix's size": (
        {},
        {f"{Q}.lora_a": np.ones((65, 64), np.float32), f"{Q}.lora_b": np.ones((64, 65), np.float32)},
        f"tensor '{Q}.lora_a' has rank 65, where {Q} of the base, 64 x 64, takes 1 to 64",
    ),
    "rank 0": (
        {},
        {f"{Q}.lora_a": np.ones((0, 64), np.float32), f"{Q}.lora_b": np.ones((64, 0), np.float32)},
        f"tensor '{Q}.lora_a' is empty: 0 x 64, and 1 more tensor",
    ),
    "NaN": ({}, {f"{Q}.lora_a": np.full((32, 64), np.nan, np.float32)}, f"tensor '{Q}.lora_a' holds NaN or infinite numbers"),
    "three dimensions": ({}, {f"{Q}.lora_a": np.ones((1, 32, 64), np.float32)}, f"tensor '{Q}.lora_a' has 3 dimensions, not 2"),
    "whole numbers": ({}, {f"{Q}.lora_a": np.ones((32, 64), np.int8)}, f"tensor '{Q}.lora_a' is I8, which can't be read"),
    "no tensor": ({}, dict.fromkeys(PAIR), "it holds no tensor"),
}


@pytest.mark.parametrize(("keys", "tensors", "said"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_for_its_base_is_refused_by_the_name_of_its_tensor(
    tmp_path: Path, tiny_base: Path, keys: dict[str, Any], tensors: dict[str, Any], said: str
) -> None:
    path = write_lora(tmp_path / "lora.gguf", {**RIGHT, **keys}, {**PAIR, **tensors})
    with pytest.raises(BuildError) as caught:
        read_gguf_lora(path, read_architecture(tiny_base))
    first, *_, fix = str(caught.value).splitlines()
    assert first == f"{path}: {said}"
    assert fix.startswith("  fix: ")


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path, tiny_base: Path) -> None:
    path = write_lora(
        tmp_path / "lora.gguf",
        {**RIGHT, "adapter.lora.alpha": 0.0},
        {**PAIR, f"{Q}.lora_a": np.full((32, 64), np.nan, np.float32), "blk.1.attn_k.weight.lora_b": np.ones((32, 4), np.float32)},
    )
    with pytest.raises(BuildError) as caught:
        read_gguf_lora(path, read_architecture(tiny_base))
    assert [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()[:-1]] == [
        "adapter.lora.alpha is 0.0, not a number other than 0 that a float32 holds",
        f"tensor '{Q}.lora_a' holds NaN or infinite numbers",
        "tensor 'blk.1.attn_k.weight.lora_b' has no lora_a beside it",
    ]


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (-100, f"tensor '{Q}.lora_b' is cut off: the file ends before it does\n  fix: fetch the file again"),
        (200, "a damaged GGUF file"),
        (2, "not a GGUF file"),
    ],
)
def test_a_cut_file_is_refused(tmp_path: Path, tiny_base: Path, length: int, said: str) -> None:
    path = write_lora(tmp_path / "lora.gguf", RIGHT, PAIR)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BuildError) as caught:
        read_gguf_lora(path, read_architecture(tiny_base))
    assert str(caught.value).startswith(f"{path}: {said}")


def test_the_base_itself_is_no_adapter(tiny_base: Path) -> None:
    with pytest.raises(BuildError, match="a whole model, not an adapter"):
        read_adapter(tiny_base, read_architecture(tiny_base))


@pytest.mark.parametrize(("version", "kind"), [("0.9.3", "adapter"), ("0.34.1", "merged")])
def test_a_gguf_lora_is_served_without_training(repo: Repo, version: str, kind: str) -> None:
    repo.server.version = version
    write_lora(Path("mine.gguf"), RIGHT, PAIR)
    repo.replace("    data: [shared]\n", "    adapter: mine.gguf\n")
    assert repo.doit("test:legal").ran == ["package:legal", "register:legal", "test:legal"]
    assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] == kind
    assert repo.trainings == []
    assert repo.doit("test:legal").ran == []
    write_lora(Path("mine.gguf"), {**RIGHT, "adapter.lora.alpha": 3.0}, PAIR)
    assert repo.doit("test:legal").ran == ["package:legal", "register:legal", "test:legal"]
    why = repo.doit("why", "legal")
    assert (why.code, why.err) == (0, "")
    assert f"as {'a GGUF LoRA' if kind == 'adapter' else 'merged weights'}" in why.out
    assert "mine.gguf" in why.out
    assert "mine.gguf" in repo.doit("ls", "legal").out


def test_a_gguf_lora_that_does_not_fit_fails_its_packaging(repo: Repo) -> None:
    write_lora(Path("mine.gguf"), {**RIGHT, "general.architecture": "qwen2"}, PAIR)
    repo.replace("    data: [shared]\n", "    adapter: mine.gguf\n")
    result = repo.doit("register:legal")
    assert result.code == 1
    assert "\npackage:legal failed:\nmine.gguf: it is for a base of architecture 'qwen2', not 'llama'\n  fix: convert a plain LoRA" in result.out


def test_a_length_that_no_file_has_is_a_damage(tmp_path: Path, tiny_base: Path) -> None:
    texts = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 1 << 40) + b"\xff" * 64
    (tmp_path / "lora.gguf").write_bytes(texts)
    with pytest.raises(BuildError, match=r"lora\.gguf: a damaged GGUF file: "):
        read_adapter(tmp_path / "lora.gguf", read_architecture(tiny_base))
