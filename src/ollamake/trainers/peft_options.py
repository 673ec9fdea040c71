"""What the embedded trainer lets a recipe say under `options`: a closed set, for what the recipe's own keys don't say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ollamake.spelling import nearest
from ollamake.trainers.port import Objection

SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How it trains, beside the recipe's own keys; docs/trainers/peft.md says what each is for."""

    weight_decay: float = 0.0
    warmup_share: float = 0.05  # of all steps, in which the learning rate rises to its value
    lr_schedule: str = "linear"  # how it falls after that
    max_grad_norm: float = 1.0  # to which the gradient is cut
    lora_dropout: float = 0.0
    gradient_checkpointing: bool | None = None  # None: where it trains on a GPU


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Key -> what is right for it, and in words.
_RIGHT: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "weight_decay": (lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1"),
    "warmup_share": (lambda value: _is_number(value) and 0 <= value <= 1, "a share of the steps, from 0 to 1"),
    "lr_schedule": (lambda value: value in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
    "max_grad_norm": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "lora_dropout": (lambda value: _is_number(value) and 0 <= value < 1, "a share, from 0 to below 1"),
    "gradient_checkpointing": (lambda value: isinstance(value, bool), "true or false"),
}
KEYS = tuple(field.name for field in fields(Options))
# What the recipe says itself, by its own names and by those of other trainers and of transformers.
_RECIPES_OWN = {
    **{
        key: key
        for key in (
            "rank",
            "alpha",
            "target_modules",
            "learning_rate",
            "epochs",
            "batch_size",
            "max_tokens",
            "seed",
            "keep",
            "patience",
            "start_from",
        )
    },
    "lora_r": "rank",
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_target_modules": "target_modules",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "max_length": "max_tokens",
    "sequence_len": "max_tokens",
    "lr": "learning_rate",
    "early_stopping_patience": "patience",
}


def options_of(recipe: Mapping[str, Any]) -> Options:
    """The options of a recipe against which there is no objection."""
    return Options(**recipe.get("options", {}))


def objections_to(recipe: Mapping[str, Any]) -> Iterator[Objection]:
    """What is wrong with a recipe's options."""
    for key, value in recipe.get("options", {}).items():
        if key in _RECIPES_OWN:
            text, fix = (
                f"the catalog says this as train.{_RECIPES_OWN[key]}",
                f"write train.{_RECIPES_OWN[key]}, and remove {key!r} from train.options",
            )
        elif key not in _RIGHT:
            text, fix = "the embedded trainer has no such option", nearest(key, KEYS)
        elif not _RIGHT[key][0](value):
            text, fix = f"{json.dumps(value)}: this has to be {_RIGHT[key][1]}", f"mend or remove {key!r} in the model's train.options"
        else:
            continue
        yield Objection(key=f"options.{key}", text=f"options.{key}: {text}", fix=fix)
