"""What the scripts of TRL and Unsloth have in common: a job's folder in, TRL's SFTTrainer, an adapter out. Runs in their environment, carried into the job.

Reads `job.json`, and `train.json`: what the recipe says in TRL's own words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, TrainerCallback

from datasets import load_from_disk
from ollamake.trainers.hf_examples import EXAMPLES, HOLDOUT, TRAIN, Written
from ollamake.trainers.hf_progress import Telling, fail, tell
from ollamake.trainers.native_options import fields_of, key_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Work:
    """A job, as it is in its folder."""

    job: Mapping[str, Any]
    native: Mapping[str, Any]  # train.json: "arguments", "lora", "options", "save_every"

    @property
    def options(self) -> Mapping[str, Any]:
        """What the catalog says in the trainer's own words."""
        found: Mapping[str, Any] = self.native["options"]
        return found


def read_work() -> Work:
    """The job in this folder. What is printed from here on goes to standard error, all but events."""
    os.dup2(2, 1)
    tell("loading")
    return Work(*(json.loads(Path(name).read_text(encoding="utf-8")) for name in ("job.json", "train.json")))


def arguments_of(work: Work, config: Any, **here: Any) -> Any:
    """The trainer's configuration: the recipe's, then what is known `here` alone, then the options."""
    try:
        return config(**{**work.native["arguments"], **here, **{name: value for name, value in work.options.items() if name in fields_of(config)}})
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        fail(f"TRL does not take this configuration: {error}", fix="mend the model's train.options", key=key_of(error, work.options))
        raise


def start_from(model: Any, work: Work) -> None:
    """Give the LoRA the weights of the adapter that the training begins with, so that it changes the base as that does."""
    if not work.job.get("start"):
        return
    folder = Path(work.job["start"])
    theirs, ours = json.loads((folder / CONFIG).read_text(encoding="utf-8")), model.peft_config["default"]
    if theirs["r"] != ours.r:
        reason = f"start_from: that adapter has rank {theirs['r']}, and this recipe {ours.r}"
        fail(reason, fix=f"write `rank: {theirs['r']}`, or start from the base", key="start_from")
    scale = _scale(theirs["lora_alpha"], theirs["r"], theirs.get("use_rslora")) / _scale(ours.lora_alpha, ours.r, ours.use_rslora)
    tensors = load_file(str(folder / WEIGHTS))
    loaded = set_peft_model_state_dict(model, {name: tensor * scale if "lora_B" in name else tensor for name, tensor in tensors.items()})
    others = [*loaded.unexpected_keys, *(name for name in loaded.missing_keys if "lora_" in name)]
    if others:
        fix = "use the target_modules and the base that it was trained with, or start from the base"
        fail(f"start_from: that adapter does not fit: {others[0]} is in one of the two alone", fix=fix, key="start_from")


def _scale(alpha: float, rank: int, by_root: bool | None) -> float:  # noqa: FBT001 - as peft's configuration has it
    return float(alpha / (rank**0.5 if by_root else rank))


def train(trainer: Callable[..., Any], work: Work, arguments: Any, *, examples: Written, model: Any, tokenizer: Any) -> None:
    """Train, and write the adapter of the last epoch or of the best one."""
    recipe, texts = work.job["recipe"], load_from_disk(str(EXAMPLES))
    holdout = texts.get(HOLDOUT)
    callbacks: list[Any] = [Telling(examples=examples.examples, tokens=examples.tokens)]
    if holdout is not None:
        callbacks.append(_Saves(work.native["save_every"]))
    if recipe.get("patience") and holdout is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=recipe["patience"]))
    training = trainer(model=model, args=arguments, train_dataset=texts[TRAIN], eval_dataset=holdout, processing_class=tokenizer, callbacks=callbacks)
    checkpoint = work.job.get("checkpoint")
    ended = _stopped_at(Path(checkpoint)) if checkpoint else None
    if ended is None:
        training.train(resume_from_checkpoint=checkpoint)
    else:
        tell("resumed", step=ended["global_step"], steps=ended["max_steps"])
        kept = ended["best_model_checkpoint"] if arguments.load_best_model_at_end else checkpoint
        set_peft_model_state_dict(model, load_file(str(Path(str(kept), WEIGHTS))))
    if training.is_world_process_zero():
        _save(training.accelerator.unwrap_model(training.model), work)
        tell("done", step=training.state.global_step if ended is None else ended["global_step"])


class _Saves(TrainerCallback):  # type: ignore[misc]  # transformers is not there where types are checked
    """Saves every few steps beside the end of each epoch, of which TRL does one.

    Not at an epoch's last step: what is written there has to know what the held out records said, so that a training which goes on from it does, too.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Have a checkpoint written where it is time."""
        epoch = max(1, round(state.max_steps / args.num_train_epochs))
        if state.global_step % self.every == 0 and state.global_step % epoch:
            control.should_save = True


def _stopped_at(checkpoint: Path) -> dict[str, Any] | None:
    """The state of a training that had ended there, by its last step or its held out records: transformers would go on behind the latter."""
    state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    ended = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {}).get("should_training_stop")
    return state if ended else None


def _save(model: Any, work: Work) -> None:
    """Write the adapter, in the same bytes each time: peft writes sets in any order, and names the base by this machine's path."""
    base, out = work.job["base"], Path(work.job["out"])
    named = base.get("hf", "")
    model.peft_config["default"].base_model_name_or_path = named if named and not os.path.isabs(named) else Path(base["gguf"]).name
    model.save_pretrained(str(out), save_embedding_layers=False)  # else peft looks for the base at a hub
    path = out / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
