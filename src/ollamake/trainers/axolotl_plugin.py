"""Axolotl's side of a job: `ollamake_axolotl.py` in the job's folder, named there as a plugin of Axolotl's.

It checks the catalog's `options` against the schema of the Axolotl that is installed, makes the text into tokens before Axolotl looks for them, and
tells the training's progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from axolotl.integrations.base import BasePlugin
from axolotl.integrations.config import merge_input_args
from pydantic import BaseModel, ValidationError
from transformers import set_seed

from ollamake.spelling import closest
from ollamake.trainers.hf_ended import end_if_ended
from ollamake.trainers.hf_examples import Written, write_examples
from ollamake.trainers.hf_gpus import check_gpus
from ollamake.trainers.hf_progress import Telling, fail, tell
from ollamake.trainers.native_options import key_of

MOST_SHOWN = 3  # faults of a config


class Job(BasePlugin):  # type: ignore[misc]  # axolotl is not there where types are checked
    """The job in the folder that Axolotl runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.job: dict[str, Any] = json.loads(Path("job.json").read_text(encoding="utf-8"))
        self.options: dict[str, Any] = self.job["recipe"].get("options", {})
        self.written = Written(0, 0)

    def register(self, cfg: Any) -> None:  # noqa: ARG002 - Axolotl's signature
        """Before the config is validated, which takes a key that it does not know for nothing."""
        tell("loading")
        check_gpus(self.job)
        sys.excepthook = self._tell_fault
        schema = merge_input_args()[1]
        for name, known in _unknown(self.options, schema):
            close = closest(name.rsplit(".", 1)[-1], known)
            fix = f"write {close!r}" if close else "remove it; `axolotl config-schema` tells the keys that there are"
            fail(f"options.{name}: this Axolotl has no such key", fix=fix, key=f"options.{name}")
        end_if_ended(self.job)
        self.written = write_examples(self.job)

    def on_config_validation_error(self, cfg: Any) -> None:  # noqa: ARG002 - Axolotl's signature
        """Tell what Axolotl has against the config; it is called while the exception is handled."""
        error = sys.exc_info()[1]
        if not isinstance(error, ValidationError):
            return
        faults = [(".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")) for fault in error.errors()]
        keys = [place.split(".")[0] for place, _ in faults if place.split(".")[0] in self.options]
        said = "; ".join(f"{place}: {text}" if place else text for place, text in faults[:MOST_SHOWN])
        key = f"options.{keys[0]}" if keys else "options"
        fail(f"Axolotl refuses the config: {said}", fix=f"mend train.{key}", key=key)

    def _tell_fault(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """What ends Axolotl is for the log; where it is about an option that its schema did not see through, the user can mend it."""
        sys.__excepthook__(kind, error, trace)
        key = key_of(error, self.options)
        if isinstance(error, ValueError) and key != "options":
            tell("failed", reason=f"Axolotl refuses {key}: {error}", fix=f"mend train.{key}", key=key)

    def pre_lora_load(self, cfg: Any, model: Any) -> None:  # noqa: ARG002 - Axolotl's signature
        """The LoRA's first weights are the seed's, too: Axolotl makes them before it thinks of that."""
        set_seed(self.job["recipe"]["seed"])

    def get_training_args(self, cfg: Any) -> dict[str, Any]:  # noqa: ARG002 - Axolotl's signature
        """A training that goes on counts the epochs without a better loss from where it was."""
        return {"restore_callback_states_from_checkpoint": True} if self.job["recipe"].get("patience") else {}

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:  # noqa: ARG002 - Axolotl's signature
        """What tells of each step."""
        return [Telling(examples=self.written.examples, tokens=self.written.tokens)]

    def post_train_unload(self, cfg: Any) -> None:  # noqa: ARG002 - Axolotl's signature
        """The adapter is written."""
        tell("done")


def _unknown(options: Mapping[str, Any], schema: Any, above: str = "") -> Iterator[tuple[str, list[str]]]:
    """The keys that the schema does not have, as `a` or `a.b`, each with those that it has there."""
    known = {name: field.annotation for name, field in schema.model_fields.items()}
    known |= {field.alias: field.annotation for field in schema.model_fields.values() if field.alias}
    for name, value in options.items():
        if name not in known:
            yield above + name, sorted(known)
        elif isinstance(value, Mapping):
            inner = _models(known[name])
            if len(inner) == 1:
                yield from _unknown(value, inner[0], f"{above}{name}.")


def _models(annotation: Any) -> list[Any]:
    """The models among the types that a field may have; none where a plain mapping is one of them, which takes any key."""
    parts = [annotation, *get_args(annotation)]
    if any(part is dict or get_origin(part) is dict for part in parts):
        return []
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
