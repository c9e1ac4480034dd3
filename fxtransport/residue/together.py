"""Costs of the batch norms of a part, computed together at its end.

They follow from a few numbers for each channel. In the middle of large kernels, calling small ones
takes most of their time, so those of a part are called for many blocks at once. The numbers stay
those of each block on its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import torch

from fxtransport.residue.block import Measure, Measures, Residue
from fxtransport.residue.powers import Reduction, is_plain_formula, refuse_second_derivative
from fxtransport.residue.sources import BatchNorm, at_least_single


class Alike(NamedTuple):
    """What blocks have in common whose costs are computed together."""

    channels: int
    elements: int
    """Of a residue."""
    batch: int
    epsilon: float
    reduction: Reduction
    dtype: torch.dtype
    norms_alone: bool
    """Whether costs have a gradient by the parameters of the norms alone."""


class Postponed(NamedTuple):
    """A cost that was not computed yet: the mean square of a batch norm's result."""

    carrier: torch.Tensor | None
    """3×C, without values, in the graph of autograd. Its gradient is the scale, the shift and the
    zeros with which the residue's gradient is computed from what the batch norm was given. None
    where the cost has a gradient by the norm's parameters alone."""
    norm: BatchNorm
    reduction: Reduction

    @property
    def alike(self) -> Alike:
        """What it has in common with others."""
        x, mean = self.norm.centered()
        alone = self.carrier is None
        return Alike(
            len(mean), x.numel(), len(x), self.norm.epsilon, self.reduction, mean.dtype, alone
        )


@dataclass(frozen=True)
class AtTheEnd:
    """A measure, some of whose results are computed at the end of a part."""

    measure: Measure
    later: Callable[[Residue], Any]

    def __call__(self, residue: Residue) -> Any:
        """A tensor, None, or :class:`Postponed`."""
        return self.later(residue)


def at_the_end(measure: Measure | Measures | None) -> Any:
    """The measure to give to a part's function, whose results are then put :func:`together`.

    Args:
        measure: One that can postpone has a method ``later``, which returns what the measure does
            or :class:`Postponed`.
    """
    if is_plain_formula() or not torch.is_grad_enabled():
        return measure
    if isinstance(measure, Measures):
        return replace(measure, residue=at_the_end(measure.residue))
    later = getattr(measure, "later", None)
    return measure if measure is None or later is None else AtTheEnd(measure, later)


def at_once(value: Any) -> Any:
    """Of a measure that postpones, one that does not; other values as they are."""
    if isinstance(value, Measures):
        return replace(value, residue=at_once(value.residue))
    return value.measure if isinstance(value, AtTheEnd) else value


def postpone(
    residue: Residue, reduction: Reduction, *, norms_alone: bool = False
) -> Postponed | None:
    """The squares of a block's branch, reduced to a scalar, for later.

    Args:
        residue: Of the block.
        reduction: Over what.
        norms_alone: Whether it is to have a gradient by the parameters of the norm alone.

    Returns:
        None if the branch is not what a batch norm returns in train mode; with a gradient by the
        residue also if the norm has no learnable parameters, or half precision.
    """
    norm = residue.branch_norm()
    if norm is None or norms_alone:
        return None if norm is None else Postponed(None, norm, reduction)
    x, mean = norm.centered()
    dtypes = {mean.dtype, *(parameter.dtype for parameter in norm.parameters or ())}
    if norm.parameters is None or len(dtypes) > 1 or at_least_single(mean) is not mean:
        return None
    carrier: torch.Tensor = _Slope.apply(residue.branch, (x, mean))
    return Postponed(carrier, norm, reduction)


def together(values: Sequence[Any]) -> torch.Tensor:
    """Costs, M of which some were postponed and the others are scalars, as one tensor of M."""
    runs = groupby(values, lambda value: getattr(value, "alike", None))
    found = [_costs_of(list(run), alike) for alike, run in runs]
    return found[0] if len(found) == 1 else torch.cat(found)


def _costs_of(run: Sequence[Any], alike: Alike | None) -> torch.Tensor:
    """The costs of neighboring blocks that are alike; of scalars, themselves."""
    if alike is None:
        return torch.stack([*run])
    if alike.norms_alone:
        weight, bias, deviation = map(at_least_single, _rows(run))
        means = BatchNorm.mean_squares(weight, bias, weight * deviation, alike.epsilon)
        return _reduced(means, alike)
    costs: torch.Tensor = _Costs.apply(*(each.carrier for each in run), run)
    return costs


def _rows(run: Sequence[Postponed]) -> list[torch.Tensor]:
    """w, b and 1/√(var + ε) of M norms, each M×C."""
    return [torch.stack(row) for row in zip(*(each.norm.rows() for each in run), strict=True)]


def _reduced(means: torch.Tensor, alike: Alike) -> torch.Tensor:
    return means if alike.reduction == "mean" else means * (alike.elements / alike.batch)


class _Slope(torch.autograd.Function):
    """The gradient of a residue, computed from what its batch norm has saved."""

    @staticmethod
    def forward(
        ctx: Any, residue: torch.Tensor, saved: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        ctx.save_for_backward(*saved)
        assert residue.shape == saved[0].shape
        return saved[1].new_empty((3, len(saved[1])))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        refuse_second_derivative()
        x, mean = ctx.saved_tensors
        return BatchNorm.normalized(x, mean, *grad.unbind()), None


class _Costs(torch.autograd.Function):
    """The costs of blocks that are alike, M, and what their residues' gradients follow from."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> torch.Tensor:
        run: Sequence[Postponed] = args[-1]
        alike = run[0].alike
        weight, bias, deviation = _rows(run)
        scale = weight * deviation
        ctx.alike = alike
        ctx.save_for_backward(scale, bias)
        return _reduced(BatchNorm.mean_squares(weight, bias, scale, alike.epsilon), alike)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale, bias = ctx.saved_tensors
        alike: Alike = ctx.alike
        factor = 2 / (alike.elements if alike.reduction == "mean" else alike.batch)
        found = scale.new_zeros((len(scale), 3, alike.channels))
        for row, each in enumerate((scale, bias)):
            found[:, row].addcmul_(each, grad.unsqueeze(1), value=factor)
        return *found.unbind(), None
