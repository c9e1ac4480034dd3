"""The transport cost of blocks that change the dimension (THESIS 6.2.3)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fxtransport.errors import UsageError
from fxtransport.ir import Block, Kind
from fxtransport.objectives.neurons import (
    Pool,
    activations_of,
    check_pool,
    positions_of,
    spread_positions,
)
from fxtransport.objectives.transport import TransportCost
from fxtransport.ot.gromov import gromov_cost, matching_cost
from fxtransport.residue import Residue

METHODS = ("soft-matching", "gromov-wasserstein")


_BLOCKS = TransportCost()


@dataclass(frozen=True)
class ProjectionCost:
    """A transport cost in which projection blocks cost what moving x_m to x_{m+1} costs.

    The shapes of x_m and x_{m+1} differ there, so that x_{m+1} - x_m does not exist. Both are
    n points, a sample or one of its positions each, in spaces whose coordinates are channels. Plans
    are found without gradient; the gradient is that of the cost, in both ends.

    ====================== =====================================================================
    ``soft-matching``      Σ P_ij (‖a_i - b_j‖₂/√n)^p, where P is an exact plan between the
                           channels of x_m and those of x_{m+1}, and a_i and b_j are the n values
                           of a channel (arXiv 2311.09466). For one width and P = I/d, p = 2 makes
                           it the mean square of x_{m+1} - x_m
    ``gromov-wasserstein`` Σ P_ik P_jl (‖x_i - x_j‖₂ - ‖y_k - y_l‖₂)²/d', where P is POT's plan
                           between the n points x_i and the n points y_k of d' channels: 0 where
                           the block keeps all distances
    ====================== =====================================================================

    The power p and the reduction are those of ``blocks``. A sum is that of the d' channels and of
    the positions of x_{m+1} that count, averaged over the batch.

    Args:
        method: How the two spaces are compared.
        blocks: The cost of all other blocks.
        pool: How maps and tokens become points: ``mean``, over positions; ``none``, each position
            is a point, for as many positions at both ends; or so many positions, at the same
            relative places.

    Raises:
        UsageError: an option is not valid.

    >>> from torch import nn
    >>> from fxtransport import transportify
    >>> from fxtransport.objectives import lap
    >>> class Block(nn.Module):
    ...     def __init__(self, width, out):
    ...         super().__init__()
    ...         self.body, self.shortcut = nn.Linear(width, out), nn.Linear(width, out)
    ...     def forward(self, x):
    ...         return self.shortcut(x) + self.body(x).relu()
    >>> program = transportify(Block(4, 6), torch.zeros(2, 4), projection_inputs=True)
    >>> objective = lap(1, 1, 1, cost=ProjectionCost("soft-matching"))
    >>> program.whole(torch.randn(5, 4), measure=objective.cost).costs.shape
    torch.Size([1])
    """

    method: str
    blocks: TransportCost = _BLOCKS
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        check_pool(self.pool)
        if self.method == "gromov-wasserstein" and self.blocks.p != 2:
            raise UsageError(
                f"gromov-wasserstein compares squares only, and p is {self.blocks.p:g}: take p=2, "
                "or soft-matching"
            )

    def __call__(self, residue: Residue) -> torch.Tensor | None:
        """The cost of a block, a scalar, in float32 at least; None if it is not penalized.

        Raises:
            UsageError: the program does not hand on the inputs of projection blocks, or points at
                both ends do not correspond.
            SolverError: a value is not finite, or no solver found a plan.
        """
        if residue.kind is not Kind.PROJECTION:
            return self.blocks(residue)
        ends = residue.ends
        if ends is None:
            raise UsageError(f"{_WITHOUT}: {_COMPILE}")
        x = activations_of(ends.input, ends.input_channels, self.pool)
        y = activations_of(ends.output, ends.output_channels, self.pool)
        if x.shape[:-1] != y.shape[:-1]:
            raise UsageError(
                f"a projection block takes {_points(x)} to {_points(y)}: {_OTHER_POOL}"
            )
        cost = self._between(x.flatten(0, -2), y.flatten(0, -2))
        return cost if self.blocks.reduction == "mean" else cost * (y.numel() / len(y))

    def _between(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The cost between n×d points and their images, n×d'."""
        if self.method == "soft-matching":
            return matching_cost(x, y, p=self.blocks.p)
        return gromov_cost(x, y, plan="exact") / y.shape[1]

    def check(self, blocks: Iterable[Block]) -> None:
        """Refuse a program whose projection blocks cannot be measured.

        Args:
            blocks: ``program.facts.blocks``.

        Raises:
            UsageError: there are none, the program does not hand on their inputs, or it has too few
                positions or other ones at the two ends.
        """
        projections = [block for block in blocks if block.kind is Kind.PROJECTION]
        if not projections:
            raise UsageError(
                "the program has no projection block that is tapped, so that no block changes the "
                f"width and {self.method} has nothing to measure; leave it out"
            )
        for block in projections:
            if block.input is None:
                raise UsageError(f"{_WITHOUT}, as of {block.path!r}: {_COMPILE}")
            x = positions_of(block.input.shape, block.input.channels)
            y = positions_of(block.shape, block.input.output_channels)
            if self.pool == "none" and math.prod(x) != math.prod(y):
                raise UsageError(
                    f"{block.path!r} takes {math.prod(x)} positions to {math.prod(y)}: "
                    f"{_OTHER_POOL}"
                )
            if isinstance(self.pool, int):
                for sizes in filter(None, (x, y)):
                    spread_positions(sizes, self.pool)


_COMPILE = "compile it with projection_inputs=True"
_WITHOUT = "the program does not hand on the inputs of projection blocks"
_OTHER_POOL = "take pool='mean', or a number of positions"


def _points(activations: torch.Tensor) -> str:
    """How many points there are, in words."""
    samples, *positions = activations.shape[:-1]
    return f"{samples} samples" + (f" of {positions[0]} positions" if positions else "")
