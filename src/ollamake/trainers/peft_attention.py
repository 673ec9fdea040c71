"""Attention in a packed row: the shared beginning to itself, each rest to the beginning and to itself. No mask as large as the row squared is ever made.

Registered with transformers as an attention implementation, so that any of its models whose layers mix tokens by attention alone trains packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from ollamake.trainers.packing import Row
from ollamake.trainers.peft_refusal import RefusedError

NAME = "ollamake_packed"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # what some models' attention has beside; left out, the states would be wrong


class Layout:
    """How the row at hand is laid out, and the masks of its rests."""

    def __init__(self, row: Row, device: torch.device) -> None:
        self.shared, self.rests = row.shared, row.rests
        self.calls = 0  # of attention, within this row
        self._device = device
        self._masks: dict[tuple[int, int, int | None], torch.Tensor] = {}

    def mask(self, queries: int, shared: int, window: int | None) -> torch.Tensor:
        """True where a rest of this many tokens sees the beginning and itself."""
        key = (queries, shared, window)
        if key not in self._masks:
            mask = torch.ones(queries, shared + queries, dtype=torch.bool, device=self._device).tril(shared)
            self._masks[key] = mask if window is None else mask.triu(shared - window + 1)
        return self._masks[key]


_current: list[Layout] = []


def current() -> Layout:
    """The layout of the row that the model reads."""
    return _current[-1]


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Within this, the model reads a row of this layout. Backward passes that compute states again belong in here, too."""
    _current.append(layout)
    try:
        yield
    finally:
        _current.pop()


def packed_attention(
    module: Any,  # noqa: ARG001 - transformers' signature
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,  # noqa: ARG001 - as above
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed row, as transformers calls it: (1, heads, tokens, size) in, (1, tokens, heads, size) out."""
    unknown = [name for name in UNKNOWN if more.get(name) is not None]
    if unknown:
        msg = f"the base's attention has {unknown[0]!r}, which the embedded trainer doesn't know"
        raise RefusedError(msg, fix="train it by another trainer, such as `trainer: trl`", key="trainer")
    layout = current()
    layout.calls += 1
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # One split and one join each: the gradient of a slice is a matrix as large as the whole.
    sizes = [layout.shared, *layout.rests]
    (shared_query, *queries), (shared_key, *keys), (shared_value, *values) = (each.split(sizes, dim=2) for each in (query, key, value))
    found = []
    if layout.shared:
        mask = layout.mask(layout.shared, 0, sliding_window)
        found.append(scaled_dot_product_attention(shared_query, shared_key, shared_value, attn_mask=mask, scale=scaling))
        keys = [torch.cat((shared_key, own), dim=2) for own in keys]
        values = [torch.cat((shared_value, own), dim=2) for own in values]
    for own, seen, worth in zip(queries, keys, values, strict=True):
        mask = layout.mask(own.shape[2], layout.shared, sliding_window)
        found.append(scaled_dot_product_attention(own, seen, worth, attn_mask=mask, scale=scaling))
    return torch.cat(found, dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, packed_attention)
