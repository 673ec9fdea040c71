"""Axolotl trains for Ollama: SmolLM2, on the CPU, in an environment of its own."""

from __future__ import annotations

import pytest

from ollamake.trainers.axolotl import AxolotlTrainer
from trainer_jobs import TrainsForOllama

pytestmark = [pytest.mark.live, pytest.mark.trainers, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own


class TestAxolotl(TrainsForOllama):
    trainer = AxolotlTrainer()
    packages = ("axolotl==0.19.0",)
    unknown = ("lora_dropuot", "options.lora_dropuot: this Axolotl has no such key\nwrite 'lora_dropout'")
    wrong = (
        ("lora_dropout", "much", "Axolotl refuses the config: lora_dropout: Input should be a valid number"),
        ("optimizer", "sgdd", "Axolotl refuses options.optimizer: sgdd is not a valid OptimizerNames"),  # which its schema lets pass
    )
