"""LLaMA-Factory trains for Ollama: SmolLM2, on the CPU, in an environment of its own."""

from __future__ import annotations

import pytest

from ollamake.trainers.llamafactory import LlamaFactoryTrainer
from trainer_jobs import TrainsForOllama

pytestmark = [pytest.mark.live, pytest.mark.trainers, pytest.mark.filterwarnings("default")]  # transformers and torch warn of their own


class TestLlamaFactory(TrainsForOllama):
    trainer = LlamaFactoryTrainer()
    packages = ("llamafactory==0.9.5",)
    unknown = ("lora_dropuot", "options.lora_dropuot: LLaMA-Factory has no such option\nwrite 'lora_dropout'")
    wrong = (("lr_scheduler_type", "lineer", "LLaMA-Factory refuses the config: lineer is not a valid SchedulerType"),)
