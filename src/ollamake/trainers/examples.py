"""Chat JSONL -> what a model reads, and which of it is learnt. Carried into jobs whose trainers run where ollamake is not installed: imports little."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.errors import BuildError
from ollamake.records.chat_template import chat_template

IGNORED = -100  # the label of a token that carries no loss


@dataclass(frozen=True, slots=True)
class Example:
    """One chat as the model sees it."""

    ids: tuple[int, ...]  # tokens
    learnt: tuple[int, ...]  # places of those that carry loss: every answer's; never the first token, which nothing could predict

    @property
    def labels(self) -> list[int]:
        """The tokens, with IGNORED for those that are not learnt; not shifted."""
        learnt = set(self.learnt)
        return [token if place in learnt else IGNORED for place, token in enumerate(self.ids)]


def read_examples(text: Path, tokenizer: Any, *, max_tokens: int) -> list[Example]:
    """The examples of a chat JSONL file. Raises BuildError where the base has no chat template, or a record more than max_tokens."""
    if not tokenizer.chat_template:
        msg = "the base has no chat template, so there is no way to ask it"
        raise BuildError(msg, fix="use an instruct or chat version of the base")
    template = chat_template(tokenizer.chat_template, bos_token=tokenizer.bos_token or "", eos_token=tokenizer.eos_token or "")
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
