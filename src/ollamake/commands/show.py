"""`doit show MODEL --record N`: a record as the model reads it, and which of its tokens it learns to say."""

from __future__ import annotations

import json as to_json
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from doit.exceptions import InvalidCommand

from ollamake.catalog import Model
from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.select import selected
from ollamake.errors import BuildError, as_printed
from ollamake.graph import Step
from ollamake.records.templated import TEMPLATED, templated
from ollamake.records.text import rendered
from ollamake.records.tokens import tokens_by_loss
from ollamake.stages.lengths import rendering_of
from ollamake.stages.mixture import mixture
from ollamake.state.digests import file_digest

RECORD = {"name": "record", "short": "r", "long": "record", "type": int, "default": 1, "help": "number of the record in the model's text, from 1"}
AS_TEXT = {"name": "text", "long": "text", "type": bool, "default": False, "help": "print the line that the trainer reads instead"}


class ShowCommand(Look):
    """Show a record of a model."""

    name = "show"
    doc_purpose = "show a record as a model reads it, and which of its tokens carry loss"
    doc_usage = "MODEL [--record N]"
    doc_description = (
        "The record is rendered by the base's own chat template. What the model learns to say stands between [[ and ]], and below it token by token."
    )
    cmd_options = (RECORD, AS_TEXT, AS_JSON)

    def _execute(self, *, record: int, text: bool, json: bool, pos_args: Sequence[str]) -> int:
        if len(pos_args) != 1 or record < 1:
            msg = "usage: doit show MODEL [--record N], N from 1"
            raise InvalidCommand(msg)
        names = selected(pos_args)
        if len(names) != 1:
            msg = f"`{pos_args[0]}` means {len(names)} models: {', '.join(names)}"
            raise InvalidCommand(as_printed(BuildError(msg, fix="name one")))
        steps = chain.from_iterable(steps for _, steps in self.catalogs())
        step = next((step for step in steps if step.id == f"convert:{names[0]}"), None)
        if step is None:
            msg = f"model {names[0]!r} is not trained: its adapter is there already"
            raise InvalidCommand(as_printed(BuildError(msg, fix=f"what is found of the adapter: doit check {names[0]}")))
        self.outstream.write(_shown(step, record, text=text, json=json))
        return 0


def _shown(step: Step, number: int, *, text: bool, json: bool) -> str:
    model = step.subject
    assert isinstance(model, Model)
    example = next(islice(mixture(model, {}), number - 1, None), None)
    if example is None:
        msg = f"model {model.name!r} has no record {number}"
        raise BuildError(msg, fix="the number is that of the record in the model's text; `doit check` says how many there are")
    text_format = step.keys["text format"]
    if text and text_format != TEMPLATED:
        return rendered(example.record, text_format, model.train.system)
    if not Path(model.base.gguf).is_file():
        raise model.base.missing()
    rendering = rendering_of(model.base.gguf, file_digest(model.base.gguf))
    if text:
        return templated(example.record, rendering, model.train.system)
    segments = rendering.segments(example.record, model.train.system)
    if segments is None or rendering.tokenizer is None:
        msg = f"base {model.base.name!r} has no chat template or tokenizer that is known here"
        raise BuildError(msg, fix="look at the line that the trainer reads: --text")
    if text_format == TEMPLATED:  # whose trainer knows no turns
        segments = [(piece, True) for piece, _ in segments]
    tokens = list(tokens_by_loss(rendering.tokenizer, segments))
    if json:
        facts = {
            "model": model.name,
            "at": str(example.mark),
            "dataset": example.dataset.name,
            "text": "".join(piece for piece, _ in segments),
            "tokens": [{"id": token, "text": piece, "loss": is_learnt} for token, piece, is_learnt in tokens],
        }
        return to_json.dumps(facts, indent=2) + "\n"
    learnt = [piece for _, piece, is_learnt in tokens if is_learnt]
    marked = "".join(f"[[{piece}]]" if is_learnt else piece for piece, is_learnt in segments)
    quoted = " ".join(to_json.dumps(piece, ensure_ascii=False) for piece in learnt)
    limit = model.train.max_tokens
    length = f"{len(tokens)} tokens, {f'more than max_tokens {limit}, ' if len(tokens) > limit else ''}{len(learnt)} of them with loss"
    return f"{example.mark} ({example.dataset.name}): {length}\n\n{marked}\n\nwith loss: {quoted}\n"
