"""TRL's side of benchmarks.train, run in TRL's environment: `python train_trl.py SETTINGS.json`.

SFTTrainer as it trains fastest on a CPU without packing: float32, no gradient checkpointing, no saving, batches of like length (those of the other
side, in its order). Prints {"seconds": from the first step's begin to the last one's end, "losses": of each step}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from datasets import Dataset


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not there where types are checked
    """When the first step began and the last one ended, and the losses."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0
        self.losses: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102 - transformers' signature
        self.begun = self.begun or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102 - transformers' signature
        self.ended = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002, D102 - transformers' signature
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))


def main(settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    base = AutoModelForCausalLM.from_pretrained(settings["base"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, settings["start"], is_trainable=True)
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(settings["base"]),
        train_dataset=Dataset.from_list(settings["examples"]),
        callbacks=[clock],
        args=SFTConfig(
            output_dir=settings["folder"],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=settings["batch_size"],
            num_train_epochs=1,
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_length=None,
            train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=settings["seed"],
        ),
    )
    trainer.train()
    print(json.dumps({"seconds": clock.ended - clock.begun, "losses": clock.losses}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
