"""The powers of residues that transport costs are made of."""

from collections.abc import Callable
from typing import Any, Literal

import torch

from fxtransport.residue.sources import Source, at_least_single

Reduction = Literal["mean", "sum"]
"""Over batch, channels and positions; or over channels and positions, averaged over the batch."""


def power_cost(
    residue: torch.Tensor,
    p: float,
    reduction: Reduction,
    source: Callable[[], Source | None] = lambda: None,
) -> torch.Tensor:
    """The p-th powers of a residue, B×…, reduced to a scalar, in float32 at least.

    For its gradient, only the residue is saved, or what ``source`` names, from which the
    residue is recomputed; so it can be differentiated once. Under ``torch.compile``,
    ``torch.jit.trace`` and ``torch.func`` it is a plain formula, and torch decides what to save.
    """
    if is_plain_formula():
        return _reduced(_mean_power(residue, p), residue, reduction)
    cost: torch.Tensor = _PowerCost.apply(residue, p, reduction, source() or Source(residue))
    return cost


def is_plain_formula() -> bool:
    """Whether costs are plain formulas now, of which torch decides what to save."""
    return bool(
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or torch._C._are_functorch_transforms_active()
    )


def refuse_second_derivative() -> None:
    """Called where a gradient is computed from what may be overwritten or freed.

    Raises:
        RuntimeError: a graph of it is asked for.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the costs of residual blocks can be differentiated once, because residues are "
            "not saved; for second derivatives use program.transport"
        )


def mean_square(residue: torch.Tensor) -> torch.Tensor:
    """The mean over batch, channels and positions of the squared residue, in float32 at least.

    The energy of a block, as the authors' released code defines it (LAP 5.3).
    """
    return _mean_power(residue, 2)


def _mean_power(residue: torch.Tensor, p: float) -> torch.Tensor:
    residue = at_least_single(residue)
    powers = residue.square() if p == 2 else residue.abs().pow(p)
    return powers.mean()


def _reduced(mean: torch.Tensor, residue: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    return mean if reduction == "mean" else mean * (residue.numel() / residue.shape[0])


class _PowerCost(torch.autograd.Function):
    """Saves what the residue is computed from, and neither its powers nor its gradient."""

    @staticmethod
    def forward(
        ctx: Any, residue: torch.Tensor, p: float, reduction: Reduction, source: Source
    ) -> torch.Tensor:
        ctx.p = p
        ctx.count = residue.numel() if reduction == "mean" else residue.shape[0]
        ctx.again = source.again
        tensors = source.tensors()
        ctx.save_for_backward(*tensors)
        mean = source.mean_square(*tensors) if p == 2 else None
        if mean is None:
            mean = _mean_power(residue, p)
        return _reduced(mean, residue, reduction)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """p·|r|^(p-1)·sign(r), over the count."""
        refuse_second_derivative()
        factor = ctx.p / ctx.count
        if ctx.p == 2:
            slope = ctx.again(grad, factor, *ctx.saved_tensors)
        else:
            residue = ctx.again(torch.ones_like(grad), 1.0, *ctx.saved_tensors)
            slope = (residue.sign() * residue.abs().pow_(ctx.p - 1)).mul_(grad * factor)
        return slope, None, None, None
