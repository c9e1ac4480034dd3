"""A residual block as a transport cost sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from fxtransport.ir import Kind
from fxtransport.residue.powers import power_cost
from fxtransport.residue.sources import BatchNorm, Difference, Source


class Ends(NamedTuple):
    """Where a block begins and ends, in spaces that may have different widths."""

    input: torch.Tensor
    """x_m."""
    input_channels: int
    """The dimension of its channels, batch dimension included."""
    output: torch.Tensor
    """x_{m+1}."""
    output_channels: int
    """The dimension of its channels."""


class Residue:
    """The values of one residual block x_{m+1} = x_m + r_m(x_m) (THESIS 2.1).

    For a block that ends in an activation, x_{m+1} = σ(x_m + r_m(x_m)). An equal-dimension
    layer x_{m+1} = g_m(x_m) is a block of kind ``identity`` whose branch is its displacement.

    Args:
        kind: What the skip operand is.
        branches: What is added to the skip; empty where that is the difference of the ends, as for
            an equal-dimension layer.
        skip: x_m; for a projection, what the shortcut makes of x_m.
        output: x_{m+1}, of the same shape.
        kept: Whether x_m and x_{m+1} are saved for backward anyway, so that residues that
            follow from them need not be.
        activated: Whether an activation lies between the sum and x_{m+1}.
        ends: x_m and x_{m+1} of a projection, in a program that was compiled with
            ``projection_inputs=True``; else None.
    """

    __slots__ = ("_activated", "_branches", "_kept", "ends", "kind", "output", "skip")

    def __init__(
        self,
        kind: Kind,
        branches: tuple[torch.Tensor, ...],
        skip: torch.Tensor,
        output: torch.Tensor,
        kept: bool = False,
        activated: bool = False,
        ends: Ends | None = None,
    ) -> None:
        self.kind = kind
        self.ends = ends
        self.skip = skip
        self.output = output
        self._branches = branches
        self._kept = kept
        self._activated = activated

    @property
    def branch(self) -> torch.Tensor:
        """r_m(x_m), as it is added to the skip; for a layer, the displacement."""
        if not self._branches:
            return self.displacement
        total = self._branches[0]
        for branch in self._branches[1:]:
            total = total + branch
        return total

    @property
    def displacement(self) -> torch.Tensor:
        """x_{m+1} - x_m. Only for kind ``identity``, because other skips are not x_m itself."""
        return self.output - self.skip

    def branch_source(self) -> Source | None:
        """What the branch can be recomputed from; None if that would have to be saved for it.

        Recomputed as x_{m+1} - x_m, it is exact up to rounding relative to x_{m+1}.
        """
        norm = self.branch_norm()
        if norm is None and not self._activated:
            return self.displacement_source()
        return norm

    def branch_norm(self) -> BatchNorm | None:
        """The batch norm that the branch is the result of; None if it is not."""
        return BatchNorm.of(self._branches[0]) if len(self._branches) == 1 else None

    def displacement_source(self) -> Source | None:
        """What the displacement can be recomputed from, bit for bit; None if it is not saved."""
        # in half precision the difference of two large numbers is not the small one
        exact = all(t.dtype in (torch.float32, torch.float64) for t in (self.output, self.skip))
        return Difference(self.output, self.skip) if self._kept and exact else None


Measure = Callable[[Residue], torch.Tensor | None]
"""What is measured of a residual block: a scalar, such as a cost; a value per sample, B, such
as a feature; or any tensor, such as the residue itself. None: nothing of this block."""


@dataclass(frozen=True)
class Measures:
    """What is measured of residual blocks, and what of the activations that are tapped by name."""

    residue: Measure | None = None
    """Is given each residual block; None measures nothing of them."""
    activation: Callable[[str, torch.Tensor], torch.Tensor | None] | None = None
    """Is given the name and the value of each activation; None measures nothing of them."""


def mean_square_branch(residue: Residue) -> torch.Tensor:
    """The mean square of a block's branch: the default measure of the parts of a program."""
    return power_cost(residue.branch, 2, "mean", residue.branch_source)
