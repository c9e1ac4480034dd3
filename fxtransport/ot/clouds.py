"""How far each residual block is from an optimal map between its input and output clouds.

A block x_{m+1} = x_m + r_m(x_m) moves the cloud of n points x_m to the cloud of the x_{m+1}, each
point by its own way. The exact W₂ between the two clouds is the least root mean square way by
which any map from one to the other moves its points, so displacement ≥ W₂, with equality where the
block is an optimal map (THESIS 3.2 and figure 37).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fxtransport.errors import UsageError
from fxtransport.ir import Kind
from fxtransport.modes import eval_mode
from fxtransport.ot.costs import check_power, power_of_square
from fxtransport.ot.solvers import assignment
from fxtransport.program import Program
from fxtransport.residue import Residue

_CHUNK = 1 << 22
"""The number of coordinates that are held in float64 at a time."""


@dataclass(frozen=True)
class Movement:
    """What one identity block does to a cloud of points.

    Attributes:
        path: The path of the module that adds; the root is ``""``.
        block: The number of the block among all that are tapped.
        displacement: The p-th root of the mean of ‖x_{m+1} - x_m‖^p over points, p = 2 by default.
        distance: W_p between the cloud before and the cloud after.
        moved: The share of points that the optimal map sends elsewhere.
    """

    path: str
    block: int
    displacement: float
    distance: float
    moved: float

    @property
    def optimality(self) -> float:
        """W_p over displacement: 1 for an optimal map; 1 too for a block that moves nothing."""
        return self.distance / self.displacement if self.displacement > 0 else 1.0


def cloud_distance(before: Tensor, after: Tensor, *, p: float = 2.0) -> float:
    """The exact W_p between two clouds of as many points.

    Args:
        before: n×…, a point in each row.
        after: n×…, of the same shape.
        p: The power of the distance, at least 1.

    Raises:
        UsageError: the shapes differ, a number is not finite, or p is not valid.

    >>> points = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    >>> cloud_distance(points, points.flip(0)), cloud_distance(points, points + 3)
    (0.0, 4.242640687119285)
    """
    check_power(p)
    return _move(before, after, p)[1]


def cloud_movements(
    program: Program, points: Tensor | tuple[Tensor, ...], *, p: float = 2.0
) -> tuple[Movement, ...]:
    """Compare each identity block of a program with the optimal map between its clouds.

    One forward of all points, in eval mode, without gradients. Blocks whose skip is a projection
    have no displacement and are left out.

    Args:
        program: Any program; in one without additions the equal-dimension layers are the blocks.
        points: n inputs of the model, in one batch: a point of each cloud is one of them.
        p: The power of the distance, at least 1.

    Raises:
        UsageError: the program has no identity block, a block does not keep the points apart, or p
            is not valid.

    >>> from torch import nn
    >>> from fxtransport import transportify
    >>> class Block(nn.Linear):
    ...     def forward(self, x):
    ...         return x + super().forward(x).relu()
    >>> program = transportify(nn.Sequential(Block(2, 2), Block(2, 2)), torch.zeros(2, 2))
    >>> [movement.path for movement in cloud_movements(program, torch.randn(20, 2))]
    ['0', '1']
    """
    inputs = points if isinstance(points, tuple) else (points,)
    check_power(p)
    measure = _Measuring(program, len(inputs[0]), p)
    with eval_mode(program), torch.no_grad():
        program(*inputs, measure=measure)
    if not measure.found:
        raise UsageError("the program has no identity block, so there is no map to look at")
    return tuple(measure.found)


def mean_optimality(movements: Iterable[Movement]) -> float:
    """The mean of W_p over displacement over blocks."""
    found = [movement.optimality for movement in movements]
    return sum(found) / len(found)


class _Measuring:
    """Is given each residue in turn, and keeps numbers only."""

    def __init__(self, program: Program, points: int, p: float) -> None:
        self._blocks = program.facts.blocks
        self._points = points
        self._p = p
        self._number = 0
        self.found: list[Movement] = []

    def __call__(self, residue: Residue) -> None:
        block, number = self._blocks[self._number], self._number
        self._number += 1
        if residue.kind is not Kind.IDENTITY:
            return
        if len(residue.output) != self._points:
            raise UsageError(
                f"the residue of {block.path!r} has {len(residue.output)} rows for "
                f"{self._points} inputs, so it does not keep points apart"
            )
        displacement, distance, moved = _move(residue.skip, residue.output, self._p)
        self.found.append(Movement(block.path, number, displacement, distance, moved))


def _move(before: Tensor, after: Tensor, p: float) -> tuple[float, float, float]:
    """Displacement, W_p, and the share of points that the optimal map sends elsewhere."""
    if before.shape != after.shape:
        raise UsageError(
            f"clouds have as many points of one shape, not {tuple(before.shape)} and "
            f"{tuple(after.shape)}"
        )
    squares = _squared_distances(before.flatten(1), after.flatten(1))
    if not squares.isfinite().all():
        raise UsageError("the clouds hold points that are not finite")
    powers = power_of_square(squares, p)
    costs = powers.cpu().numpy()
    columns = assignment(costs)
    rows = range(len(costs))
    own = float(powers.diagonal().mean()) ** (1 / p)
    least = float(costs[rows, columns].mean()) ** (1 / p)
    moved = sum(int(i) != int(j) for i, j in zip(rows, columns, strict=True)) / len(costs)
    # of plans that cost the same, that of the block itself is as good as any
    return (own, own, 0.0) if least >= own * (1 - 1e-12) else (own, least, moved)


def _squared_distances(before: Tensor, after: Tensor) -> Tensor:
    """‖before_i - after_j‖², n×n, in float64: from differences, a piece of coordinates at a time.

    Points of two clouds may be much nearer than they are long, so no product of matrices of the
    points themselves is taken: both are shifted by the same mean point.
    """
    n, coordinates = before.shape
    found = torch.zeros(n, n, dtype=torch.float64, device=before.device)
    exact = torch.zeros(n, dtype=torch.float64, device=before.device)
    for start in range(0, coordinates, max(1, _CHUNK // max(1, n))):
        piece = slice(start, start + max(1, _CHUNK // max(1, n)))
        x, y = before[:, piece].double(), after[:, piece].double()
        middle = x.mean(0)
        exact += (y - x).square().sum(1)
        x, y = x - middle, y - middle
        found += x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return found.clamp_(min=0).fill_diagonal_(0) + exact.diag()
