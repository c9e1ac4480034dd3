"""A residual block as a transport cost sees it."""

from collections.abc import Callable
from typing import Literal

import torch

from fxtransport.ir import Kind


class Residue:
    """The values of one residual block x_{m+1} = x_m + r_m(x_m) (THESIS 2.1).

    Of a block that ends in an activation, x_{m+1} = σ(x_m + r_m(x_m)). An equal-dimension
    layer x_{m+1} = g_m(x_m) is a block of kind ``identity`` whose branch is its displacement.

    Args:
        kind: What the skip operand is.
        branches: The other operands of the addition; none of an equal-dimension layer.
        skip: x_m; of a projection, what becomes of x_m on the skip path.
        output: x_{m+1}, of the same shape.
    """

    __slots__ = ("_branches", "kind", "output", "skip")

    def __init__(
        self,
        kind: Kind,
        branches: tuple[torch.Tensor, ...],
        skip: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        self.kind = kind
        self.skip = skip
        self.output = output
        self._branches = branches

    @property
    def branch(self) -> torch.Tensor:
        """r_m(x_m), as it is added to the skip; of a layer, the displacement."""
        if not self._branches:
            return self.displacement
        total = self._branches[0]
        for branch in self._branches[1:]:
            total = total + branch
        return total

    @property
    def displacement(self) -> torch.Tensor:
        """x_{m+1} - x_m; only of kind ``identity``, for other skips are not x_m itself."""
        return self.output - self.skip


Cost = Callable[[Residue], torch.Tensor | None]
"""What a residual block costs, a scalar; None where it is not penalised."""


Reduction = Literal["mean", "sum"]
"""Over batch, channels and positions; or over channels and positions, averaged over the batch."""


def power_cost(residue: torch.Tensor, p: float, reduction: Reduction) -> torch.Tensor:
    """The p-th powers of a residue, B×…, reduced to a scalar, in float32 at least."""
    if residue.dtype in (torch.float16, torch.bfloat16):
        residue = residue.float()
    powers = residue.square() if p == 2 else residue.abs().pow(p)
    return powers.mean() if reduction == "mean" else powers.sum() / residue.shape[0]


def mean_square(residue: torch.Tensor) -> torch.Tensor:
    """The mean over batch, channels and positions of the squared residue, in float32 at least.

    The energy of a block as the authors' released code takes it (methods: LAP 5.3).
    """
    return power_cost(residue, 2, "mean")


def mean_square_branch(residue: Residue) -> torch.Tensor:
    """The mean square of a block's branch: what the modules of a program return by default."""
    return mean_square(residue.branch)


def measured(
    cost: Cost | None,
    kind: str,
    branches: tuple[torch.Tensor, ...],
    skip: torch.Tensor,
    output: torch.Tensor,
) -> torch.Tensor | None:
    """What a residual block costs; None if nothing is to be measured. Generated code calls it."""
    if cost is None:
        return None
    return cost(Residue(Kind(kind), branches, skip, output))


def copied(cost: Cost | None, value: torch.Tensor) -> torch.Tensor | None:
    """A copy of what the model overwrites before it is measured, if it is to be measured."""
    return None if cost is None else value.clone()
