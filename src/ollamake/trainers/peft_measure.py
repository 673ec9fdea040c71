"""The loss of a base, and of an adapter on it, over records: `python -m ollamake.trainers.peft_measure FOLDER`.

Reads `measure.json` in the folder (`base`: as in a job; `text`: chat JSONL; `adapter`: PEFT directory; `max_tokens`) and writes `measured.json` into it:
the mean of the losses of all learnt tokens, `base` and `adapter`; or what the user can mend, as `failed` and `fix`. On the CPU, in float32, for adapters
of any trainer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ollamake.errors import BuildError
from ollamake.lora.peft_config import scale_of
from ollamake.trainers import peft_attention
from ollamake.trainers.adapter_folder import CONFIG, WEIGHTS
from ollamake.trainers.examples import Example, read_examples
from ollamake.trainers.packing import batches, pack
from ollamake.trainers.peft_base import load_base
from ollamake.trainers.peft_lora import PREFIX
from ollamake.trainers.peft_loss import measured
from ollamake.trainers.peft_refusal import RefusedError, as_event

WANTED, FOUND = "measure.json", "measured.json"
BATCH = 4  # records


def main(folder: Path) -> int:
    """Measure what the folder says; the exit code."""
    job = json.loads((folder / WANTED).read_text(encoding="utf-8"))
    try:
        found: dict[str, Any] = _losses(job)
    except BuildError as error:
        event = as_event(error)
        found = {"failed": event["reason"], "fix": event.get("fix")}
    (folder / FOUND).write_text(json.dumps(found), encoding="utf-8")
    return 1 if "failed" in found else 0


def _losses(job: Mapping[str, Any]) -> dict[str, float]:
    torch.set_flush_denormal(True)
    model, tokenizer = load_base(job["base"], dtype=torch.float32)
    examples = read_examples(Path(job["text"]), tokenizer, max_tokens=job["max_tokens"])
    model.set_attn_implementation(peft_attention.NAME)
    model.requires_grad_(False).eval()  # noqa: FBT003 - torch's signature
    base = _loss(model, examples)
    add_adapter(model, Path(job["adapter"]))
    return {"base": base, "adapter": _loss(model, examples)}


def _loss(model: Any, examples: list[Example]) -> float:
    sums = [measured(model, pack(batch)) for batch in batches(examples, size=BATCH, seed=0, epoch=0)]
    return sum(total for total, _ in sums) / max(1, sum(count for _, count in sums))


def add_adapter(model: Any, folder: Path) -> None:
    """Add to the model's weights what the adapter in this folder adds to them. Raises RefusedError where it does not fit."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        msg = f"the adapter can't be read: {error}"
        raise RefusedError(msg, fix="train it again, or look at the files of `adapter:`", key="") from error
    modules = dict(model.named_modules())
    for name in tensors:
        plain = name.replace(".default.weight", ".weight")
        if not plain.endswith(".lora_A.weight"):
            continue
        module = plain.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        other = tensors.get(name.replace(".lora_A.", ".lora_B."))
        if module not in modules or other is None:
            msg = f"the adapter does not fit its base: {module}"
            raise RefusedError(msg, fix="look whether it was trained on this base", key="")
        scale = scale_of(config, module, tensors[name].shape[0])
        modules[module].weight.data += (other.float() @ tensors[name].float()) * scale


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
