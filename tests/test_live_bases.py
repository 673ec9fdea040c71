"""The base's folder as transformers reads it: the model that it makes of the GGUF itself, and the tokens that the server makes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

import tiny_base
from ollamake.bases.hf_config import llama3_factors
from ollamake.bases.hf_folder import hf_folder
from ollamake.lora.gguf_file import read_head
from ollamake.records.tokens import Rendering
from ollamake.state.digests import file_digest

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own

TEXTS = (
    "How do I reset my password?",
    "  two  spaces,\ttab,\n\nlines \r\n and an end \n",
    "1234567890 3.14 0x1F 2e-5",
    "Größe, naïve, Łódź, Привет, 你好世界, こんにちは, مرحبا",
    "👩‍👩‍👧 🇩🇪 e\u0301 \u200b\ufeff",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|>",
    "def f(x):\n    return x**2  # it's we'll I'd THEY'RE",
    "",
    "a" * 300,
)
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be {brief}."}, {"role": "user", "content": "Größe? <|im_end|>"}],
    [{"role": "user", "content": "One"}, {"role": "assistant", "content": " two \n"}, {"role": "user", "content": "Three"}],
]


@pytest.fixture(scope="module")
def folder(base_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = tmp_path_factory.mktemp("cache")
    yield hf_folder(base_gguf, file_digest(base_gguf), cache)
    shutil.rmtree(cache)


def loaded(folder: Path, **how: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **{"dtype": torch.float32, **how}).eval()


def logits_differ(one: Any, other: Any, ids: list[int]) -> float:
    import torch

    with torch.no_grad():
        return float((one(torch.tensor([ids])).logits - other(torch.tensor([ids])).logits).abs().max())


def test_the_model_is_the_one_that_transformers_makes_of_the_gguf(base_gguf: Path, folder: Path) -> None:
    ours, theirs = loaded(folder), loaded(base_gguf.parent, gguf_file=base_gguf.name)
    assert logits_differ(ours, theirs, list(range(40, 140))) < 1e-4
    for key in ("rope_parameters", "rms_norm_eps", "max_position_embeddings", "vocab_size", "tie_word_embeddings", "head_dim"):
        assert getattr(ours.config, key) == pytest.approx(getattr(theirs.config, key)), key


def test_tokens_and_chats_are_those_of_the_gguf(base_gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    ours, theirs = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(base_gguf.parent, gguf_file=base_gguf.name)
    served = Rendering(read_head(base_gguf, with_arrays=True).keys)
    assert served.tokenizer is not None
    for text in TEXTS:
        ids = ours(text).input_ids
        assert ids == served.tokenizer.encode(text).ids, text
        assert ids == theirs(text).input_ids, text
        assert ours.decode(ids) == text
    # Of a number that is no decimal digit, llama.cpp and the model's own tokenizer make three tokens; transformers, of the GGUF, another split.
    assert ours(" ½").input_ids == served.tokenizer.encode(" ½").ids
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for chat in CHATS:
        told = ours.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert told == theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert served.template is not None
        assert told == served.template.prompt(chat)


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, Type.Q8_0])
def test_every_kind_of_weights_is_loaded(tmp_path: Path, kind: Type) -> None:
    base = tmp_path / "base.gguf"
    output = np.random.default_rng(5).standard_normal((tiny_base.VOCABULARY, tiny_base.HIDDEN), dtype=np.float32)
    tiny_base.write_tiny_base(base, kind=kind, extra={"output.weight": output})
    ours, theirs = loaded(hf_folder(base, "sha256:1", tmp_path / "cache")), loaded(tmp_path, gguf_file=base.name)
    assert logits_differ(ours, theirs, list(range(60))) < 1e-3  # of logits in the tens: the tiny base's weights are as wild as can be


def test_the_long_context_of_llama_3_is_carried(tmp_path: Path) -> None:
    plain, scaled = tmp_path / "plain.gguf", tmp_path / "scaled.gguf"
    factors = llama3_factors(8.0, theta=10_000.0, size=tiny_base.HIDDEN // tiny_base.HEADS)
    tiny_base.write_tiny_base(plain)
    tiny_base.write_tiny_base(scaled, extra={"rope_freqs.weight": factors})
    one, other = (loaded(hf_folder(base, f"sha256:{base.stem}", tmp_path / "cache")).model.rotary_emb.inv_freq.numpy() for base in (plain, scaled))
    assert np.allclose(one / factors, other, rtol=1e-5)
