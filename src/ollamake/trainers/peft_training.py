"""The embedded trainer, as the program that trains: `python -m ollamake.trainers.peft_training JOB_FOLDER`.

Reads `job.json`, writes a PEFT adapter into the job's `out/`, and tells its progress as JSON objects, one a line, on standard output
(`trainers.port.Event`); all other chatter goes to standard error. It ends when its standard input does: the process that
started it is gone then, and nobody would take the adapter.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from ollamake.errors import BuildError
from ollamake.records.chat_template import chat_template
from ollamake.trainers.peft_base import load_base

IGNORED = -100  # the label of a token that carries no loss
WARMUP_SHARE = 0.05  # of all steps: the learning rate rises to its value, then falls to nothing in a straight line
LONGEST_GRADIENT = 1.0  # norm to which gradients are clipped


@dataclass(frozen=True, slots=True)
class Example:
    """One chat as the model sees it."""

    ids: tuple[int, ...]  # tokens
    learnt: tuple[int, ...]  # places of those that carry loss: every answer's


def main(folder: Path, events: TextIO) -> None:
    """Train the job in this folder; what the user can mend is told as the event "failed"."""

    def tell(event: str, **facts: Any) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")
        events.flush()

    try:
        _do_job(folder, tell)
    except BuildError as error:
        tell("failed", reason=str(error))


def _do_job(folder: Path, tell: Any) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    recipe = job["recipe"]
    tell("loading")
    torch.manual_seed(recipe["seed"])
    device, dtype = _device()
    model, tokenizer = load_base(job["base"], cache=Path(job["cache"]), dtype=dtype)
    examples = _examples(folder / job["text"], tokenizer, max_tokens=recipe["max_tokens"])
    model = _with_lora(model, recipe).to(device)
    _train(model, examples, recipe, device=device, tell=tell)
    _save(model, folder / job["out"], base=job["base"])
    tell("done")


def _save(model: Any, out: Path, *, base: Mapping[str, Any]) -> None:
    """Write the adapter, in the same bytes each time: peft writes sets in any order, and names the base by this machine's path."""
    model.peft_config["default"].base_model_name_or_path = base.get("hf") or Path(base["gguf"]).name
    model.save_pretrained(out, save_embedding_layers=False)  # else peft looks for the base at a hub
    path = out / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _device() -> tuple[torch.device, torch.dtype]:
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.device("cpu"), torch.float32


def _examples(text: Path, tokenizer: Any, *, max_tokens: int) -> list[Example]:
    """The examples of a chat JSONL file. Raises BuildError where the base has no chat template, or a record more than max_tokens."""
    if not tokenizer.chat_template:
        msg = "the base has no chat template, so there is no way to ask it"
        raise BuildError(msg, fix="use an instruct or chat version of the base")
    template = chat_template(
        tokenizer.chat_template,
        bos_token=tokenizer.bos_token or "",
        eos_token=tokenizer.eos_token or "",
    )
    examples: list[Example] = []
    too_long: list[tuple[int, int]] = []
    with text.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            if "text" in record:
                segments = [(record["text"] + (tokenizer.eos_token or ""), True)]
            else:
                segments = template.segments(record["messages"], record.get("tools", ()))
            examples.append(_example(segments, tokenizer))
            if len(examples[-1].ids) > max_tokens:
                too_long.append((number, len(examples[-1].ids)))
    if too_long:
        raise _too_long(too_long, max_tokens)
    return examples


def _example(segments: Sequence[tuple[str, bool]], tokenizer: Any) -> Example:
    """The example of a chat in these pieces, (text, is learnt) each."""
    ids: list[int] = []
    learnt: list[int] = []
    text = ""
    for segment, is_learnt in segments:
        text += segment
        whole = tokenizer(text, add_special_tokens=False).input_ids
        if whole[: len(ids)] != ids:  # a token reaches over the seam: served, the prompt ends there all the same
            whole = [*ids, *tokenizer(segment, add_special_tokens=False).input_ids]
        if is_learnt:
            learnt.extend(range(max(1, len(ids)), len(whole)))  # nothing comes before the first token that could predict it
        ids = whole
    return Example(tuple(ids), tuple(learnt))


def _too_long(records: Sequence[tuple[int, int]], max_tokens: int) -> BuildError:
    """The error of these records, (number, tokens) each."""
    shown = ", ".join(f"record {number}: {tokens}" for number, tokens in records[:5])
    more = f" and {len(records) - 5} more" if len(records) > 5 else ""
    longest = max(tokens for _, tokens in records)
    count = "1 record is" if len(records) == 1 else f"{len(records)} records are"
    msg = f"{count} longer than max_tokens {max_tokens} ({shown}{more})"
    return BuildError(msg, fix=f"shorten, or write `max_tokens: {longest}` into the model's `train:`")


def _with_lora(model: Any, recipe: Mapping[str, Any]) -> Any:
    config = LoraConfig(
        r=recipe["rank"],
        lora_alpha=recipe["alpha"],
        lora_dropout=0.0,
        target_modules=list(recipe["target_modules"]),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _batches(examples: Sequence[Example], *, size: int, seed: int, epoch: int) -> Iterator[list[Example]]:
    """The epoch's batches: examples of like length together, so that little is padded; the order decided by seed and epoch."""
    shuffled = list(examples)
    chance = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    chance.shuffle(shuffled)
    shuffled.sort(key=lambda example: len(example.ids))
    batches = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    chance.shuffle(batches)
    yield from batches


def _train(model: Any, examples: Sequence[Example], recipe: Mapping[str, Any], *, device: torch.device, tell: Any) -> None:
    size, epochs = recipe["batch_size"], recipe["epochs"]
    steps = -(-len(examples) // size) * epochs
    tokens = sum(len(example.ids) for example in examples) * epochs
    tell("start", steps=steps, examples=len(examples), tokens=tokens, device=device.type)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe["learning_rate"], weight_decay=0.0)
    warmup = max(1, round(steps * WARMUP_SHARE))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup)))
    model.train()
    begun, seen, step = time.monotonic(), 0, 0
    for epoch in range(epochs):
        for batch in _batches(examples, size=size, seed=recipe["seed"], epoch=epoch):
            loss = _loss(model, batch, device)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, LONGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            seen += sum(len(example.ids) for example in batch)
            rate = seen / (time.monotonic() - begun)
            tell(
                "step",
                step=step,
                steps=steps,
                epoch=epoch + 1,
                loss=round(loss.item(), 5),
                tokens_per_second=round(rate, 1),
                seconds_left=round((tokens - seen) / rate, 1),
            )


def _loss(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross entropy of the answers' tokens. Logits are computed where there is a label, and nowhere else."""
    length = max(len(example.ids) for example in batch)
    ids = torch.zeros((len(batch), length), dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(batch):
        count = len(example.ids)
        ids[row, :count] = torch.tensor(example.ids)
        mask[row, :count] = 1
        # The state at a token predicts the next one: labels stand one place earlier.
        places = torch.tensor(example.learnt)
        labels[row, places - 1] = ids[row, places]
    labels = labels.to(device)
    base = model.get_base_model()
    states = base.base_model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).last_hidden_state
    wanted = labels != IGNORED
    logits = base.get_output_embeddings()(states[wanted])
    return cross_entropy(logits.float(), labels[wanted])


def _run(folder: Path) -> None:
    # Libraries print as they like: the events get a descriptor of their own, and file descriptor 1 becomes standard error.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main(folder, events)


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
