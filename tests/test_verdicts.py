"""What is found of an adapter: each thing a verdict, all of them at once, said once, and by `doit check` without building."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Repo
from ollamake.errors import BuildError
from ollamake.lora.architecture import read_architecture
from ollamake.lora.read import adapter_verdicts, read_adapter
from ollamake.lora.verdict import CARRIED, REFUSED, WARNING, of_kind
from test_gguf_lora import PAIR, RIGHT, write_lora
from test_lora import CONFIG, Q, adapter_tensors, write_adapter

K = "base_model.model.model.layers.1.self_attn.k_proj"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ZERO = np.zeros((64, 4), np.float32)


def found(folder: Path, base: Path, kind: str, hf: str | None = None) -> list[tuple[str, str]]:
    return [(verdict.what, verdict.text) for verdict in of_kind(kind, adapter_verdicts(folder, read_architecture(base), hf))]


def test_every_layer_that_is_carried_is_named_with_its_rank_and_scale(tmp_path: Path, tiny_base: Path) -> None:
    folder = write_adapter(tmp_path / "mine", adapter_tensors(), use_rslora=True, lora_alpha=7.5, alpha_pattern={"up_proj": 2})
    carried = dict(found(folder, tiny_base, CARRIED))
    assert carried["lora_alpha"] == "lora_alpha is 7.5"
    assert carried["use_rslora"] == "use_rslora: what is learned is scaled by alpha / sqrt(r)"
    assert carried["alpha_pattern"] == "alpha_pattern: of 1 modules, or patterns of them"
    assert carried["model.layers.1.mlp.up_proj"] == "model.layers.1.mlp.up_proj: rank 4, scale 1, on blk.1.ffn_up.weight"
    assert carried["model.layers.0.self_attn.q_proj"] == "model.layers.0.self_attn.q_proj: rank 4, scale 3.75, on blk.0.attn_q.weight"
    assert len(carried) == 3 + 14
    assert found(folder, tiny_base, WARNING) == found(folder, tiny_base, REFUSED) == []


WARNED: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = {
    "no alpha": ({}, {"lora_alpha": ...}, [("lora_alpha", "lora_alpha is not in adapter_config.json: it is taken for 8, as peft does")]),
    "B of zeros": (
        {f"{Q}.lora_B.weight": ZERO},
        {},
        [(f"{Q}.lora_B.weight", f"tensor '{Q}.lora_B.weight': A or B holds zeros alone, so the layer is the base's own")],
    ),
    "a block is missing": (
        {f"{K}.lora_A.weight": None, f"{K}.lora_B.weight": None},
        {"target_modules": ALL},
        [("k_proj", "target_modules names k_proj, which has no tensors in 1 of 2 blocks: 1")],
    ),
    "by a pattern": (
        {f"{K}.lora_A.weight": None, f"{K}.lora_B.weight": None},
        {"target_modules": r".*\.self_attn\.(k|v)_proj"},
        [("k_proj", "target_modules names k_proj, which has no tensors in 1 of 2 blocks: 1")],
    ),
    "meant so": (
        {f"{K}.lora_A.weight": None, f"{K}.lora_B.weight": None},
        {"target_modules": ALL, "exclude_modules": ["layers.1.self_attn.k_proj"]},
        [],
    ),
    "a layer is missing": (
        {name: None for name in adapter_tensors() if "up_proj" in name},
        {"target_modules": "all-linear"},
        [("up_proj", "target_modules names up_proj, which has no tensors in all blocks")],
    ),
    "another base": (
        {},
        {"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"},
        [
            (
                "base_model_name_or_path",
                "base_model_name_or_path is 'Qwen/Qwen2.5-0.5B', and the base is 'HuggingFaceTB/SmolLM2-135M': on another base than its own an adapter does harm",
            )
        ],
    ),
    "a copy of the base": ({}, {"base_model_name_or_path": "unsloth/smollm2-135m-bnb-4bit"}, []),
    "a folder": ({}, {"base_model_name_or_path": "/models/qwen"}, []),
    "a GGUF": ({}, {"base_model_name_or_path": "SmolLM.Q4_1.gguf"}, []),
    "a number that is not known": (
        {},
        {"new_size": 16},
        [("new_size", "new_size is 16: a key of adapter_config.json that is not known here; it is left out")],
    ),
    "nothing that is not known": ({}, {"new_config": None, "use_new": False, "others": {}}, []),
}


@pytest.mark.parametrize(("tensors", "config", "warnings"), WARNED.values(), ids=WARNED)
def test_what_may_be_meant_so_is_carried_with_a_warning(
    tmp_path: Path, tiny_base: Path, tensors: dict[str, Any], config: dict[str, Any], warnings: list[tuple[str, str]]
) -> None:
    there = {name: tensor for name, tensor in {**adapter_tensors(), **tensors}.items() if tensor is not None}
    folder = write_adapter(tmp_path / "mine", there, **config) if ... not in config.values() else write_adapter(tmp_path / "mine", there)
    if ... in config.values():
        (folder / "adapter_config.json").write_text(json.dumps({key: value for key, value in CONFIG.items() if key not in config}), encoding="utf-8")
    base = "HuggingFaceTB/SmolLM2-135M"
    assert found(folder, tiny_base, WARNING, base) == warnings
    adapter = read_adapter(folder, read_architecture(tiny_base), base)
    assert [(warning.what, warning.text) for warning in adapter.warnings] == warnings
    if "lora_alpha" in config:
        assert {pair.scale for pair in adapter.pairs} == {2.0}


def test_a_switch_that_is_not_known_is_refused_by_its_name(tmp_path: Path, tiny_base: Path) -> None:
    folder = write_adapter(tmp_path / "mine", adapter_tensors(), use_newest=True, newest_config={"a": 1})
    with pytest.raises(BuildError) as caught:
        read_adapter(folder, read_architecture(tiny_base))
    config, switch, fix = str(caught.value).splitlines()
    assert switch == f"{folder}: use_newest is True: a key of adapter_config.json that is not known here, so what it does can't be carried"
    assert config.startswith(f"{folder}: newest_config is {{'a': 1}}: ")
    assert fix.startswith("  fix: where 'newest_config' changes nothing in what the adapter computes, remove it")


def test_an_adapter_that_does_nothing_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    tensors = {name: np.zeros_like(tensor) if "lora_B" in name else tensor for name, tensor in adapter_tensors().items()}
    folder = write_adapter(tmp_path / "mine", tensors)
    ((what, said),) = found(folder, tiny_base, REFUSED)
    assert what == f"{Q.replace('q_proj', 'k_proj').replace('self_attn.k_proj', 'mlp.down_proj')}.lora_B.weight"
    assert said == f"tensor '{what}' and all others: A or B holds zeros alone, so the adapter does nothing"
    idle = write_lora(tmp_path / "mine.gguf", RIGHT, {name: np.zeros_like(tensor) for name, tensor in PAIR.items()})
    assert found(idle, tiny_base, REFUSED)[0][1] == "tensor 'blk.0.attn_q.weight.lora_b': A or B holds zeros alone, so the adapter does nothing"


def test_everything_that_is_refused_is_said_at_once_with_all_that_can_be_done(tmp_path: Path, tiny_base: Path) -> None:
    tensors = {**adapter_tensors(), f"{Q}.lora_magnitude_vector": np.ones(64, np.float32), f"{K}.lora_A.weight": np.full((4, 64), np.inf, np.float32)}
    folder = write_adapter(tmp_path / "mine", tensors, lora_alpha=0, use_dora=True)
    with pytest.raises(BuildError) as caught:
        read_adapter(folder, read_architecture(tiny_base))
    *said, fix = str(caught.value).splitlines()
    assert [line.removeprefix(f"{folder}: ") for line in said] == [
        "lora_alpha is 0, not a number other than 0 that a float32 holds",
        "use_dora is True, which a server of Ollama does not carry",
        f"tensor '{Q}.lora_magnitude_vector' is none of a plain LoRA's: the magnitudes of DoRA",
        f"tensor '{K}.lora_A.weight' holds NaN or infinite numbers",
    ]
    assert fix == (
        "  fix: write the lora_alpha that it was trained with into adapter_config.json; train a plain LoRA on attention and MLP layers: no DoRA, no bias, "
        "no modules_to_save; train it again, with a lower learning rate: its training has diverged"
    )


def test_of_a_gguf_that_lacks_blocks_it_is_said(tmp_path: Path, tiny_base: Path) -> None:
    path = write_lora(tmp_path / "mine.gguf", RIGHT, PAIR)
    assert found(path, tiny_base, WARNING) == [("attn_q", "attn_q has tensors in 1 of 2 blocks")]
    assert found(path, tiny_base, CARRIED) == [("blk.0.attn_q.weight", "blk.0.attn_q.weight: rank 32, scale 0.1875")]


@pytest.fixture
def given(repo: Repo) -> Repo:
    """The model legal has an adapter that is there, without a lora_alpha."""
    folder = write_adapter(repo.path / "mine", adapter_tensors())
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, "lora_alpha": 6.5}), encoding="utf-8")
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    return repo


def test_warnings_are_said_when_it_is_packaged_and_not_by_a_build_that_does_nothing(given: Repo) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "lora_alpha"}
    (given.path / "mine/adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    said = "   legal: warning: mine: lora_alpha is not in adapter_config.json: it is taken for 8, as peft does\n"
    result = given.doit("package:legal")
    assert (result.code, result.out.count(said)) == (0, 1)
    assert said not in given.doit("package:legal").out


def test_check_says_what_is_found_of_an_adapter_and_builds_nothing(given: Repo) -> None:
    result = given.doit("check", "legal")
    assert (result.code, result.out, result.err) == (0, "legal: adapter mine on base 'tiny': 15 carried\n", "")
    write_adapter(given.path / "mine", {**adapter_tensors(), f"{Q}.lora_B.weight": ZERO, f"{K}.bias": np.ones(32, np.float32)})
    result = given.doit("check", "legal")
    assert (result.code, result.err) == (1, "")
    assert result.out == (
        f"mine: tensor '{K}.bias' is none of a plain LoRA's: a bias\n"
        "  fix: train a plain LoRA on attention and MLP layers: no DoRA, no bias, no modules_to_save\n"
        f"warning: mine: tensor '{Q}.lora_B.weight': A or B holds zeros alone, so the layer is the base's own\n"
        "legal: adapter mine on base 'tiny': 14 carried, 1 warning, 1 refused\n"
    )
    assert result.out in given.doit("check").out
    (adapter,) = json.loads(given.doit("check", "--json", "legal").out)["adapters"]
    assert (adapter["model"], adapter["adapter"], adapter["base"], len(adapter["found"])) == ("legal", "mine", "tiny", 16)
    assert {"verdict": "refused", "what": f"{K}.bias"}.items() <= next(v for v in adapter["found"] if v["verdict"] == "refused").items()
    assert not Path("build").exists()


def test_one_fault_of_many_tensors_is_said_once(given: Repo) -> None:
    write_adapter(given.path / "mine", adapter_tensors(), r=8)
    result = given.doit("check", "legal")
    fault, fix, count = result.out.splitlines()
    assert result.code == 1
    assert fault.endswith("has rank 4, where the config has r 8, and 13 more tensors")
    assert fix == "  fix: write the r, and the rank_pattern, that it was trained with into adapter_config.json"
    assert count == "legal: adapter mine on base 'tiny': 0 carried, 14 refused"
    (told,) = json.loads(given.doit("check", "--json", "legal").out)["adapters"]
    assert len(told["found"]) == 14


def test_check_of_a_model_says_where_its_adapter_is_not_here(given: Repo) -> None:
    result = given.doit("check", "sales")
    assert (result.code, result.out, result.err) == (0, "", "sales: its adapter, or its base, is not here\n")
    assert given.doit("check", "shared").out.startswith("shared: ")


@pytest.mark.parametrize(
    ("adapter", "files"), [("ad/nope", "ad/nope/adapter_config.json, ad/nope/adapter_model.safetensors"), ("ad/nope.gguf", "ad/nope.gguf")]
)
def test_an_adapter_of_the_catalog_that_is_not_here_is_a_fault(given: Repo, adapter: str, files: str) -> None:
    given.replace("adapter: mine", f"adapter: {adapter}")
    result = given.doit("check", "legal")
    fault, fix, count = result.out.splitlines()
    assert (result.code, result.err) == (1, "")
    assert fault.partition(" ")[2] == f"model 'legal': no such file: {files}"
    assert fix == "  fix: put it there, or mend the path in the catalog"
    assert count == f"legal: adapter {adapter} on base 'tiny': 0 carried, 1 refused"
    whole = given.doit("check")
    assert (whole.code, result.out in whole.out) == (1, True)
    (told,) = json.loads(given.doit("check", "--json").out)["adapters"]
    assert [verdict["verdict"] for verdict in told["found"]] == ["refused"]
    assert f"no such file: {files.partition(',')[0]}" in given.doit("package:legal").out


def test_a_base_that_is_not_here_is_no_fault_of_an_adapter(given: Repo) -> None:
    Path("base.gguf").unlink()
    result = given.doit("check", "legal")
    assert (result.code, result.out, result.err) == (0, "", "legal: its adapter, or its base, is not here\n")


def test_a_base_that_is_not_known_is_refused_by_check_too(given: Repo) -> None:
    Path("base.gguf").write_bytes(b"<!DOCTYPE html>")
    result = given.doit("check", "legal")
    assert result.code == 1
    assert result.out.startswith("base.gguf: not a GGUF file: it begins with b'<!DO'\n  fix: fetch the file again")
