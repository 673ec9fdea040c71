"""Unsloth trains for Ollama: SmolLM2, on the CPU, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamake.ollama.address import Address
from ollamake.trainers.unsloth import UnslothTrainer
from trainer_builds import killed_and_taken_up
from trainer_jobs import TrainsForOllama, environment

pytestmark = [pytest.mark.live, pytest.mark.trainers, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own
PACKAGES = ("unsloth==2026.10.9",)


class TestUnsloth(TrainsForOllama):
    trainer = UnslothTrainer()
    packages = PACKAGES
    unknown = ("lora_dropuot", "options.lora_dropuot: Unsloth 2026.10.9 has no such option\nwrite 'lora_dropout' (known: ")
    wrong = (
        ("optim", "nope", "TRL does not take this configuration: nope is not a valid OptimizerNames"),
        ("use_rslora", "yes", "options.use_rslora: 'yes' is not what Unsloth 2026.10.9 takes: bool"),
    )


def test_a_build_that_was_killed_goes_on_and_its_model_answers(base_gguf: Path, real_address: Address, tmp_path: Path) -> None:
    killed_and_taken_up(tmp_path, "unsloth", environment("unsloth", *PACKAGES), base_gguf, real_address)
