"""LoRA: two small matrices beside each chosen layer, as they are trained. Plain LoRA, as PEFT has it, without its imports and its detours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import dropout, linear

from ollamake.spelling import nearest
from ollamake.trainers.peft_refusal import RefusedError

PREFIX = "base_model.model."  # of each name in a PEFT directory


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]  # torch is not there where types are checked
    """`x W' + scale (x A') B'` with a frozen W: one matrix for the sum, and none kept but x, x A' and the weights."""

    @staticmethod
    def forward(  # noqa: PLR0917 - torch calls it by position
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ a.t()
        result = linear(flat, weight, bias)
        result.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(flat, inner, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, given: torch.Tensor) -> Any:
        flat, inner, weight, a, b = ctx.saved_tensors
        given = given.reshape(-1, given.shape[-1])
        to_inner = (given @ b).mul_(ctx.scale)
        to_a = to_inner.t() @ flat
        to_b = (given.t() @ inner).mul_(ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = given @ weight
            to_x.addmm_(to_inner, a)
            to_x = to_x.view(ctx.shape)
        return to_x, None, None, to_a, to_b, None


class LoraLinear(nn.Module):  # type: ignore[misc]  # as above
    """A linear layer of the base, frozen, with its LoRA."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.dropout = dropout
        # In float32 whatever the base is in: steps are smaller than what bfloat16 can tell apart.
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))  # at first, the adapter changes nothing
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's result with the adapter's."""
        a, b = self.a.to(x.dtype), self.b.to(x.dtype)
        if self.dropout and self.training:
            return self.base(x) + linear(linear(dropout(x, self.dropout), a), b) * self.scale
        return _LoraProduct.apply(x, self.base.weight, self.base.bias, a, b, self.scale)


def add_lora(model: nn.Module, *, targets: Sequence[str], rank: int, alpha: float, dropout: float) -> dict[str, LoraLinear]:
    """Freeze the model and put a LoRA beside each layer of these names; module name -> layer, in the model's order. Raises RefusedError."""
    model.requires_grad_(False)  # noqa: FBT003 - torch's signature
    found: dict[str, LoraLinear] = {}
    for name, module in list(model.named_modules()):
        above, _, last = name.rpartition(".")
        if last not in targets:
            continue
        if not isinstance(module, nn.Linear):
            msg = f"the base's {name} is a {type(module).__name__}, and no plain linear layer"
            raise RefusedError(msg, fix=f"take {last!r} out of target_modules", key="target_modules")
        found[name] = LoraLinear(module, rank=rank, alpha=alpha, dropout=dropout)
        setattr(model.get_submodule(above), last, found[name])
    lacking = sorted(set(targets) - {name.rpartition(".")[2] for name in found})
    if lacking:
        names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear) and not name.endswith(".base")}
        msg = f"the base has no layer {lacking[0]!r}"
        raise RefusedError(msg, fix=nearest(lacking[0], names), key="target_modules")
    return found


class Weights:
    """All LoRA matrices of a model, and their gradients, as one vector each: one tensor to step, to keep and to put back."""

    def __init__(self, layers: Mapping[str, LoraLinear], device: torch.device) -> None:
        self.layers = layers
        parameters = [matrix for layer in layers.values() for matrix in (layer.a, layer.b)]
        self.vector = nn.Parameter(torch.cat([matrix.detach().flatten() for matrix in parameters]).to(device))
        self.vector.grad = torch.zeros_like(self.vector)
        start = 0
        for matrix in parameters:
            piece = slice(start, start + matrix.numel())
            matrix.data = self.vector.data[piece].view(matrix.shape)
            matrix.grad = self.vector.grad[piece].view(matrix.shape)  # gradients add up in place
            start = piece.stop

    @property
    def gradient(self) -> torch.Tensor:
        """That of all matrices, of what was learnt since it was last zeroed."""
        assert self.vector.grad is not None
        return self.vector.grad

    def copy(self) -> torch.Tensor:
        """The weights as they are now."""
        return self.vector.detach().clone()

    def put(self, vector: torch.Tensor) -> None:
        """Make the weights these."""
        self.vector.data.copy_(vector)

    def named(self) -> dict[str, torch.Tensor]:
        """Each matrix by its name in a PEFT directory; they share memory with the weights."""
        return {
            f"{PREFIX}{name}.lora_{side}.weight": matrix.data
            for name, layer in self.layers.items()
            for side, matrix in (("A", layer.a), ("B", layer.b))
        }
