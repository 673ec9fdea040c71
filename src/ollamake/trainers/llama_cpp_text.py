"""The text that llama-finetune reads, and the windows that it cuts it into.

Found in its source (b11434: examples/training/finetune.cpp, common_opt_dataset_init, llama_context::opt_init) and by running it:

- All of a window has to be one micro-batch, or the weights of K and V get no gradients. So a window is the context and the batch, and a step.
- A context is a multiple of 256 tokens. Each window begins half a window behind the one before.
- Of T tokens it makes (T - window - 1) / (window / 2) windows, rounded down: the last ones of a text are in none, and with too few of them it crashes.
- Tokens like <|im_end|> are plain characters in a text, for the base that it is given has other names for them (records.stand_ins).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.lora.gguf_file import read_keys
from ollamake.records.stand_ins import with_stand_ins
from ollamake.records.tokens import CONTROL, Rendering

UNIT = 256  # tokens
SEAM = 16  # tokens, at most, by which a text and its beginning once more may differ from the two of them
LONGEST = 8192  # tokens of a window, where the GGUF does not say more


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """A text, and how it is read."""

    text: str
    size: int  # tokens of each
    count: int  # in an epoch


def windows_of(path: Path, base: Path, max_tokens: int) -> Windows:
    """The templated text in this file as a ring: behind its end comes its beginning again, until each of its tokens is in two windows.

    `base`: the GGUF that is served. A window is twice as long as the longest record, so that each is whole in one of them, unless max_tokens or the base's
    context is less. Raises BuildError where the base can't be read, or its tokenizer is not known.
    """
    keys = read_keys(base, with_arrays=True)
    rendering = Rendering(keys)
    if rendering.tokenizer is None:
        kind, split = keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.pre")
        msg = f"{base}: its tokenizer is of a kind that is not known here, so its tokens can't be counted: model {kind!r}, pre {split!r}"
        raise BuildError(msg, fix="train by another trainer, or on another base")
    records = [str(json.loads(line)["text"]) for line in path.read_bytes().splitlines()]
    text = "".join(f"{record}\n" for record in records)
    most = min(max_tokens, int(keys.get(f"{keys.get('general.architecture')}.context_length", LONGEST)))
    most = max(UNIT, most // UNIT * UNIT)
    tokens, types = keys.get("tokenizer.ggml.tokens", ()), keys.get("tokenizer.ggml.token_type", ())
    control = [token for token, kind in zip(tokens, types, strict=False) if kind == CONTROL]
    longest = max(rendering.count(record) for record in records) + 1
    size = min(most, -(-2 * longest // UNIT) * UNIT)
    ends = [end for _, end in rendering.tokenizer.encode(text, add_special_tokens=False).offsets]
    count = -(-len(ends) // (size // 2))
    wanted = count * (size // 2) + size + 1 + SEAM
    rounds, more = divmod(wanted, len(ends))
    ring = text * rounds + text[: ends[more - 1] if more else 0]
    return Windows(text=with_stand_ins(ring, control), size=size, count=count)
