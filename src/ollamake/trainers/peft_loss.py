"""The loss of a packed row: logits where there is a label and nowhere else, and never those of many labels at a time."""

from __future__ import annotations

from typing import Any

import torch

from ollamake.trainers.packing import Row
from ollamake.trainers.peft_attention import Layout, current, laid_out
from ollamake.trainers.peft_refusal import RefusedError

PIECE = 256  # labels whose logits are there at a time: a vocabulary of 128,000 makes 131 MB of them


class _LabelLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is not there where types are checked
    """Sum of the labels' cross entropies. The gradient comes with the logits, so that these are made once and not kept."""

    @staticmethod
    def forward(  # noqa: PLR0917 - torch calls it by position
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, scale: float, cap: float | None
    ) -> torch.Tensor:
        needs_gradient = states.requires_grad
        gradient = torch.empty_like(states) if needs_gradient else None
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(labels), PIECE):
            piece = slice(start, start + PIECE)
            right = labels[piece, None]
            logits = (states[piece] @ weight.t()).float().mul_(scale)
            if cap is not None:
                logits = cap * torch.tanh(logits / cap)
            slope = None if cap is None or gradient is None else 1 - (logits / cap) ** 2
            highest = logits.amax(1, keepdim=True)
            chosen = logits.gather(1, right)
            sums = logits.sub_(highest).exp_().sum(1, keepdim=True)
            total += (highest + sums.log() - chosen).sum()
            if gradient is not None:
                logits.div_(sums).scatter_add_(1, right, torch.full_like(chosen, -1.0))  # softmax less one where the label is
                if slope is not None:
                    logits.mul_(slope)
                torch.mm(logits.mul_(scale).to(weight.dtype), weight, out=gradient[piece])
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, given: torch.Tensor) -> Any:
        return ctx.gradient.mul_(given.to(ctx.gradient.dtype)), None, None, None, None


def row_loss(model: Any, row: Row) -> torch.Tensor:
    """The sum of the cross entropies of what is learnt in this row. Its backward pass belongs into `laid_out`, too, where states are computed again."""
    device, config = model.device, model.config.get_text_config()
    before = current().calls
    states = model.base_model(
        input_ids=torch.tensor([row.ids], device=device),
        position_ids=torch.tensor([row.positions], device=device),
        attention_mask=None,
        use_cache=False,
    ).last_hidden_state
    if current().calls - before != config.num_hidden_layers:
        msg = "the base has layers that mix tokens by other ways than attention, so examples can't stand side by side"
        raise RefusedError(msg, fix="train it by another trainer, such as `trainer: trl`", key="trainer")
    chosen = states[0].index_select(0, torch.tensor(row.places, dtype=torch.long, device=device))
    labels = torch.tensor(row.labels, dtype=torch.long, device=device)
    scale = 1.0
    if getattr(config, "logit_scale", None):  # Cohere multiplies
        scale = float(config.logit_scale)
    elif getattr(config, "logits_scaling", None):  # Granite divides
        scale = 1 / float(config.logits_scaling)
    return _LabelLoss.apply(chosen, model.get_output_embeddings().weight, labels, scale, getattr(config, "final_logit_softcapping", None))


def learn(model: Any, rows: list[Row]) -> float:
    """Add to the gradients those of the batch's mean loss over all of its learnt tokens, row by row, and return that loss."""
    count = max(1, sum(len(row.labels) for row in rows))
    total = 0.0
    for row in rows:
        with laid_out(Layout(row, model.device)):
            loss = row_loss(model, row) / count
            loss.backward()
        total += loss.item()
    return total


def measured(model: Any, rows: list[Row]) -> tuple[float, int]:
    """The sum of the losses, and the number of tokens that they are of; no gradients."""
    total = 0.0
    with torch.no_grad():
        for row in rows:
            with laid_out(Layout(row, model.device)):
                total += row_loss(model, row).item()
    return total, sum(len(row.labels) for row in rows)
