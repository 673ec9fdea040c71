"""What is served is what was trained: one adapter, by every way that there is, gives the answers that transformers and peft give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_fixtures import BASE, ROOT, SYSTEM, Trained
from ollamake.bases.hf_folder import hf_folder
from ollamake.digest import digest_file
from ollamake.folders import cache_folder
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.records.chat_template import chat_template
from ollamake.state.digests import file_digest

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers, peft and torch warn of their own

TOKENS = 16
# The largest difference of two logits, as a share of what the adapter itself does to them: what the rounding of the changed tensors
# explains. Seen: 0.1 % for F16, 1 % (q and k) and 3 % (all 210 matrices) for Q8_0, whose step is 50 times that of F16; 26 % and more for a wrong permutation.
TOLERANCE = {"f16": 0.005, "q8_0": 0.05}


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class Reference:
    """transformers and peft, on the weights of the GGUF in float32."""

    model: Any
    tokenizer: Any

    def prompt(self, question: str) -> Any:
        template = chat_template(self.tokenizer.chat_template)
        return self.tokenizer(template.prompt(messages(question)), add_special_tokens=False, return_tensors="pt")

    def answer(self, question: str) -> str:
        tokens = self.prompt(question)
        made = self.model.generate(**tokens, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
        return str(self.tokenizer.decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)).strip()

    def logits(self, question: str) -> Any:
        import torch

        with torch.no_grad():
            return self.model(**self.prompt(question)).logits[0].numpy()


@pytest.fixture(scope="module")
def reference(trained: Trained, base_gguf: Path) -> Reference:
    import torch
    from peft import PeftModel

    from ollamake.trainers.peft_base import load_base

    model, tokenizer = load_base({"path": hf_folder(base_gguf, file_digest(base_gguf), cache_folder())}, dtype=torch.float32)
    return Reference(PeftModel.from_pretrained(model, trained.folder).eval(), tokenizer)


@pytest.fixture(scope="module")
def expected(reference: Reference, trained: Trained) -> list[str]:
    return [reference.answer(question) for question, _ in trained.records]


class Unpermuted(Architecture):
    """The mistake: rows of q and k as transformers has them."""

    def in_file_order(self, tensor: str, rows: Any) -> Any:  # noqa: ARG002 - the names are the class's
        return rows


@pytest.fixture
def answers(trained: Trained, base_gguf: Path, real_server: OllamaServer, tmp_path: Path) -> Iterator[Any]:
    """A function: the way to serve, and perhaps a wrong architecture, to what Ollama answers."""

    def asked(way: str, architecture: Architecture | None = None) -> list[str]:
        architecture = architecture or read_architecture(base_gguf)
        adapter = read_peft_adapter(trained.folder, architecture)
        path = tmp_path / f"{way}.gguf"
        if way == "adapter":
            write_gguf_lora(adapter, architecture, path)
        else:
            write_merged_gguf(base_gguf, architecture.head, adapter, way, path)
        weights, base = (path, digest_file(path)), (base_gguf, file_digest(base_gguf))
        real_server.create(
            NewModel(
                name="way",
                files=(base if way == "adapter" else weights,),
                adapter=weights if way == "adapter" else None,
                system=SYSTEM,
                template=None,
                parameters={"temperature": 0, "num_thread": 1},
            )
        )
        real_server.load("way")
        return ["".join(real_server.answer("way", messages(q)[1:], num_predict=TOKENS)).removesuffix("...").strip() for q, _ in trained.records]

    yield asked
    real_server.delete("way")


def agreeing(one: list[str], other: list[str]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


def test_transformers_recalls_what_the_adapter_was_taught(expected: list[str], trained: Trained) -> None:
    """Else agreement would prove nothing."""
    right = [answer.startswith(said[:20]) for answer, (_, said) in zip(expected, trained.records, strict=True)]
    assert sum(right) >= 8, list(zip(expected, trained.records, strict=True))


# Of the other adapter test_live_handed_adapter.py shows two of the ways; how the third is merged, logits do.
@pytest.mark.parametrize("trained", ["all linear"], indirect=True)
@pytest.mark.parametrize("way", ["adapter", "q8_0", "f16"])
def test_ollama_answers_as_transformers_does(answers: Any, expected: list[str], way: str) -> None:
    served = answers(way)
    print(way, agreeing(served, expected), "of", len(expected))
    assert agreeing(served, expected) >= 9, list(zip(served, expected, strict=True))


# An adapter on all linear layers recalls by its MLP what a wrong q and k would lose: only the other one shows it in its answers; of merged weights, logits do.
@pytest.mark.parametrize("trained", ["q and k"], indirect=True)
def test_without_the_permutation_the_answers_are_others(answers: Any, expected: list[str], base_gguf: Path) -> None:
    served = answers("adapter", Unpermuted(read_architecture(base_gguf).head))
    print(agreeing(served, expected), "of", len(expected))
    assert agreeing(served, expected) <= 5, served


def merged_difference(trained: Trained, reference: Reference, architecture: Architecture, path: Path, weights_type: str) -> float:
    """The largest difference between logits of the merged file, as transformers reads it, and of transformers and peft: a share of the adapter's effect."""
    import torch
    from transformers import AutoModelForCausalLM

    write_merged_gguf(ROOT / BASE, architecture.head, read_peft_adapter(trained.folder, architecture), weights_type, path)
    merged = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    other = Reference(merged, reference.tokenizer)
    difference = effect = 0.0
    for question, _ in trained.records[:4]:
        wanted = reference.logits(question)
        difference = max(difference, float(np.abs(other.logits(question) - wanted).max()))
        with reference.model.disable_adapter():
            effect = max(effect, float(np.abs(reference.logits(question) - wanted).max()))
    print(f"{weights_type}: difference {difference:.3f}, effect of the adapter {effect:.1f}: {difference / effect:.2%}")
    return difference / effect


@pytest.mark.parametrize("weights_type", ["f16", "q8_0"])
def test_merged_logits_are_those_of_transformers(trained: Trained, reference: Reference, base_gguf: Path, tmp_path: Path, weights_type: str) -> None:
    difference = merged_difference(trained, reference, read_architecture(base_gguf), tmp_path / "merged.gguf", weights_type)
    assert difference < TOLERANCE[weights_type]


def test_without_the_permutation_the_logits_are_others(trained: Trained, reference: Reference, base_gguf: Path, tmp_path: Path) -> None:
    wrong = Unpermuted(read_architecture(base_gguf).head)
    assert merged_difference(trained, reference, wrong, tmp_path / "merged.gguf", "f16") > 20 * TOLERANCE["f16"]
