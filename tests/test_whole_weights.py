"""Weights that were trained whole: checked against their base, served with its keys, and a model on its whole way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from conftest import Repo
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.lora.changes import Form
from ollamake.lora.gguf_file import GgufHead, read_head
from ollamake.lora.merge import write_merged
from ollamake.lora.whole_weights import WholeWeights, trained_weights
from test_lora import weights_of
from tiny_base import write_tiny_base

Weights = Mapping[str, NDArray[np.float32]]
Q, NORM, EMBEDDING = "blk.0.attn_q.weight", "blk.1.attn_norm.weight", "token_embd.weight"


def write_weights(path: Path, weights: Weights, architecture: str = "llama", kind: Type = Type.F32) -> Path:
    """As llama-finetune does: with the wrong context, and without a template."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(256)
    for name, tensor in weights.items():
        writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(tensor), kind) if kind != Type.F32 else tensor, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def trained(base: Path) -> dict[str, NDArray[np.float32]]:
    return {name: weights if name == EMBEDDING else weights * np.float32(1.5) for name, weights in weights_of(base).items()}


def write_served(base: Path, head: GgufHead, whole: WholeWeights, weights_type: str, target: Path) -> str:
    """As the packaging does."""
    with trained_weights(base, head, whole) as changes:
        return write_merged(base, head, changes, Form(weights_type=weights_type), target)


@pytest.mark.parametrize(
    ("weights_type", "kind", "error"), [("q8_0", Type.Q8_0, 0.03), ("f16", Type.F16, 0.003), ("bf16", Type.BF16, 0.03), ("keep", Type.Q8_0, 0.03)]
)
def test_what_is_served_has_the_trained_weights_and_the_keys_of_the_base(
    weights_type: str, kind: Type, error: float, tiny_base: Path, tmp_path: Path
) -> None:
    head = read_head(tiny_base, with_arrays=True)
    whole = WholeWeights(write_weights(tmp_path / "model.gguf", trained(tiny_base)), head)
    digest = write_served(tiny_base, head, whole, weights_type, tmp_path / "served.gguf")
    assert digest == digest_file(tmp_path / "served.gguf")
    served = read_head(tmp_path / "served.gguf", with_arrays=True)
    assert served.keys == head.keys
    assert [(tensor.name, tensor.shape) for tensor in served.tensors] == [(tensor.name, tensor.shape) for tensor in head.tensors]
    types = {tensor.name: Type(tensor.type) for tensor in served.tensors}
    assert (types[Q], types[NORM], types[EMBEDDING]) == (kind, Type.F32, Type.Q8_0)
    found = weights_of(tmp_path / "served.gguf")
    for name, weights in trained(tiny_base).items():
        np.testing.assert_allclose(found[name], weights, atol=0 if name in {NORM, EMBEDDING} else error)


def test_tensors_that_were_not_trained_are_the_bases_own_bytes(tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    write_tiny_base(base, kind=Type.Q4_1)
    head = read_head(base)
    changed = {name: weights + np.float32(1) if name == Q else weights for name, weights in weights_of(base).items()}
    write_served(base, head, WholeWeights(write_weights(tmp_path / "model.gguf", changed), head), "q8_0", tmp_path / "served.gguf")
    before, after = ({tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors} for path in (base, tmp_path / "served.gguf"))
    assert [name for name in before if before[name].tobytes() != after[name].tobytes()] == [Q]


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.pop(name)


def spoilt(weights: dict[str, Any]) -> None:
    weights[Q] = weights[Q].copy()
    weights[Q][3, 4] = np.nan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(Q), f"it has no tensor {Q!r}, as the base has"),
        (lambda weights: weights.update({"output.weight": weights[EMBEDDING]}), "the base has no tensor 'output.weight'"),
        (lambda weights: weights.update({Q: weights[Q][:32]}), f"tensor {Q!r} is 32 x 64, where that of the base is 64 x 64"),
        (spoilt, f"tensor {Q!r} holds NaN or infinite numbers"),
    ],
)
def test_weights_that_are_not_those_of_the_base_are_refused(
    change: Callable[[dict[str, Any]], None], said: str, tiny_base: Path, tmp_path: Path
) -> None:
    weights = trained(tiny_base)
    change(weights)
    path = write_weights(tmp_path / "model.gguf", weights)
    with pytest.raises(BuildError) as caught:
        WholeWeights(path, read_head(tiny_base))
    assert str(caught.value) == f"{path}: {said}\n  fix: train it again, on the base that it is served from"


def test_a_file_that_is_not_whole_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "model.gguf", trained(tiny_base))
    last = read_head(path).tensors[-1].name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BuildError, match=f"tensor {last!r} is not whole: the file ends in it"):
        WholeWeights(path, read_head(tiny_base))


def test_a_file_of_another_kind_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    for path, said in (
        (write_weights(tmp_path / "a.gguf", trained(tiny_base), architecture="qwen2"), "its architecture is 'qwen2', and that of the base 'llama'"),
        (write_weights(tmp_path / "b.gguf", {Q: trained(tiny_base)[Q]}, kind=Type.Q8_0), f"tensor {Q!r} is Q8_0, not of floats"),
    ):
        with pytest.raises(BuildError, match=said):
            WholeWeights(path, read_head(tiny_base))


@pytest.fixture
def whole(repo: Repo, stand_in: Path) -> Repo:
    """A repo whose model `legal` is trained by what behaves as llama-finetune; nothing built yet."""
    repo.replace("    data: [shared]\n", f"    data: [shared]\n    train: {{trainer: llama.cpp, env: {stand_in}, learning_rate: 1e-5}}\n")
    return repo


def test_a_model_that_is_trained_whole_is_served_as_merged_weights(whole: Repo) -> None:
    result = whole.doit("build", "legal")
    assert result.code == 0, result.out + result.err
    assert result.ran == ["validate:shared", "convert:legal", "train:legal", "package:legal", "register:legal", "test:legal"]
    assert sorted(path.name for path in Path("weights/legal").iterdir()) == ["model.gguf", "receipt.json"]
    assert not Path("adapters").exists()
    served = json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))
    assert (served["kind"], [*served["files"]], served["trained"]) == ("merged", ["merged.gguf"], "weights/legal")
    base, made = read_head(Path("base.gguf"), with_arrays=True), read_head(Path("build/legal/merged.gguf"), with_arrays=True)
    assert made.keys == base.keys
    assert whole.doit("build", "legal").ran == []
    events = [json.loads(line) for line in Path("build/legal/events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["event"] for event in events] == ["loading", "start", *["step"] * 6, "done"]
    assert events[-2]["step"] == events[-2]["steps"] == 6
    why = whole.doit("why", "legal")
    assert "llama.cpp" in why.out


def test_whole_weights_survive_what_is_cheap(whole: Repo) -> None:
    whole.doit("build", "legal")
    assert whole.doit("clean").code == 0
    assert Path("weights/legal/model.gguf").exists()
    assert not Path("build/legal/merged.gguf").exists()
    assert whole.doit("build", "legal").ran == ["validate:shared", "convert:legal", "package:legal"]


def test_another_weights_type_only_packages_again(whole: Repo) -> None:
    whole.doit("build", "legal")
    whole.replace("learning_rate: 1e-5}\n", "learning_rate: 1e-5}\n    serve: {weights_type: f16}\n")
    assert whole.doit("build", "legal").ran == ["package:legal", "register:legal", "test:legal"]
    types = {tensor.name: Type(tensor.type) for tensor in read_head(Path("build/legal/merged.gguf")).tensors}
    assert (types[Q], types[NORM]) == (Type.F16, Type.F32)


def test_damaged_weights_are_trained_again(whole: Repo) -> None:
    whole.doit("build", "legal")
    before = Path("weights/legal/model.gguf").read_bytes()
    Path("weights/legal/model.gguf").write_bytes(before[:-10])
    assert whole.doit("build", "legal").ran == ["train:legal"]  # and what follows comes out the same
    assert Path("weights/legal/model.gguf").read_bytes() == before


def test_weights_may_be_accepted(whole: Repo) -> None:
    whole.doit("build", "legal")
    whole.replace("learning_rate: 1e-5", "learning_rate: 2e-5")
    assert whole.doit("accept", "legal", "--because", "the same").code == 0
    assert "train:legal" not in whole.doit("build", "legal").ran
    whole.replace("learning_rate: 2e-5", "learning_rate: 3e-5")
    weights = trained(Path("base.gguf"))
    spoilt(weights)
    write_weights(Path("weights/legal/model.gguf"), weights)
    result = whole.doit("accept", "legal", "--because", "no")
    assert f"weights/legal/model.gguf: tensor {Q!r} holds NaN or infinite numbers" in result.out + result.err


def test_whole_weights_cannot_be_served_as_an_adapter(whole: Repo) -> None:
    whole.replace("learning_rate: 1e-5}\n", "learning_rate: 1e-5}\n    serve: {weights: adapter}\n")
    result = whole.doit("build", "legal")
    assert result.code == 3
    assert (
        "models.yaml:13: model 'legal': trainer 'llama.cpp' makes a whole model, which can't be served as an adapter, as serve.weights says\n"
        "  fix: remove `weights: adapter` from the model's `serve:`\n"
    ) in result.out + result.err
    whole.replace("weights: adapter", "weights: split")
    result = whole.doit("build", "legal")
    assert result.code == 3
    assert "makes a whole model, which can't be served in two files, one of them shared, as serve.weights says\n" in result.out + result.err


def test_options_that_the_program_does_not_know_end_the_build_at_their_line(whole: Repo) -> None:
    whole.replace("learning_rate: 1e-5}", "learning_rate: 1e-5, options: {weight-decoy: 1}}")
    result = whole.doit("build", "legal")
    assert result.code == 1
    assert "models.yaml:13: model 'legal': options: llama-finetune knows no --weight-decoy\n  fix: see `llama-finetune --help`\n" in result.out
    assert not Path("weights").exists()


def test_a_loss_that_is_no_number_ends_the_build(whole: Repo) -> None:
    whole.replace("learning_rate: 1e-5}", "learning_rate: 1e-4}")
    result = whole.doit("build", "legal")
    assert result.code == 1
    assert "model 'legal': the loss is no number any more (nan), at step 1 of epoch 1\n  fix: write a smaller `learning_rate`" in result.out


def test_show_says_what_such_a_model_learns(whole: Repo) -> None:
    shown = whole.doit("show", "legal", "--record", "1").out
    assert "[[<|im_start|>user\nQuestion 0?<|im_end|>\n<|im_start|>assistant\n]][[Answer 0.<|im_end|>]]" in shown
    assert json.loads(whole.doit("show", "legal", "--record", "1", "--text").out)["text"].endswith("assistant\nAnswer 0.<|im_end|>")
