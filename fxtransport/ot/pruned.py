"""Exact plans by pruning: a sparse problem on few edges, whose duals are checked on all.

Approximate dual potentials tell which pairs of neurons may share mass in an optimal plan. The
network simplex then runs on those. Its own potentials prove that the plan is optimal for the full
problem, or name the edges that are missing.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from fxtransport.ot.costs import places
from fxtransport.ot.coupling import Coupling, Indices, Weights, split_rows, staircase
from fxtransport.ot.simplex import network_simplex

_ROUNDS = 8
_EDGES = 8
"""Edges kept for each neuron of the larger side."""
_LEVELS = ((0.25, 4), (0.05, 16))
"""Of the entropic problems that give the potentials: the temperature, relative to the median
reduced cost at first, and the number of scalings."""
_SMALLEST = -80.0
"""Of exponents: what lies below makes float32 numbers that are slow to compute with."""
_TOLERANCE = 1e-12
"""By how much a reduced cost may be negative, relative to the largest cost."""


class Duals(NamedTuple):
    """Potentials of rows and columns."""

    rows: Tensor
    columns: Tensor

    def reduced(self, costs: Tensor) -> Tensor:
        """What each pair costs beyond its potentials; nowhere negative if they are feasible."""
        return (costs - self.rows[:, None]).sub_(self.columns)

    def made_feasible(self, costs: Tensor) -> "Duals":
        """The largest potentials of columns that are feasible with these of the rows, and back."""
        columns = (costs - self.rows[:, None]).amin(0)
        return Duals((costs - columns).amin(1), columns)


def by_pruning(costs: Tensor, a: Weights, b: Weights) -> Coupling | None:
    """Find an optimal plan by pruning.

    Args:
        costs: d×d', float64, on any device; everything but the network simplex runs there.
        a: The weight of each row, all positive.
        b: The weight of each column, all positive; with the same sum.

    Returns:
        The plan, with at most d + d' − 1 edges; None where pruning does not pay or a round limit
        is reached.
    """
    rows, columns = _groups(costs), _groups(costs.T)
    merged = costs
    if len(rows.first) < len(rows.of) or len(columns.first) < len(columns.of):
        merged = costs[rows.first][:, columns.first]
    first: Weights = np.bincount(rows.of, a).astype(np.float64)
    second: Weights = np.bincount(columns.of, b).astype(np.float64)
    found = _solve(merged, first, second)
    if found is None:
        return None
    plan = split_rows(found, rows.of, a)
    return split_rows(plan.turned(), columns.of, b).turned()


class _Groups(NamedTuple):
    """Rows with the same costs, such as those of dead neurons."""

    first: Tensor
    """The first row of each group."""
    of: Indices
    """The group of each row."""


def _groups(costs: Tensor) -> _Groups:
    """Group equal rows: equal in a random projection, and then in all entries."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(costs.shape[1], generator=generator, dtype=costs.dtype)
    keys = (costs @ weights.to(costs.device)).cpu().numpy()
    _, first, of = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < len(keys):
        repeated = np.flatnonzero(first[of] != np.arange(len(keys)))
        same = costs[repeated] == costs[first[of[repeated]]]
        if not same.all():
            first = of = np.arange(len(keys))
    if len(first) == len(keys):
        first = of = np.arange(len(keys))
    return _Groups(torch.as_tensor(first, device=costs.device), of)


def _solve(costs: Tensor, a: Weights, b: Weights) -> Coupling | None:
    """Solve a problem whose rows differ, in rounds."""
    duals = _approximate_duals(costs, a, b).made_feasible(costs)
    # costs up to good potentials have the same plans, and cost the simplex fewer pivots
    reduced = duals.reduced(costs)
    kept = _lowest(reduced, _EDGES * max(costs.shape))
    kept.flatten()[_staircase_edges(a, b, costs.device)] = True
    for _ in range(_ROUNDS):
        edges = places(kept)
        if 3 * len(edges) > kept.numel():
            return None
        vertex = network_simplex(a, b, _sparse(reduced, edges))
        if vertex.problem:
            return None
        duals = Duals(*(torch.as_tensor(side, device=costs.device) for side in vertex[1:3]))
        violated = duals.reduced(reduced) < -_TOLERANCE * float(costs.max())
        if not violated.any():
            return vertex.plan
        kept |= violated
    return None


def _approximate_duals(costs: Tensor, a: Weights, b: Weights) -> Duals:
    """Potentials by Sinkhorn's scalings at falling temperatures, in float32."""
    single = costs.float()
    first = torch.as_tensor(a, dtype=torch.float32, device=costs.device)
    second = torch.as_tensor(b, dtype=torch.float32, device=costs.device)
    rows = single.amin(1)
    duals = Duals(rows, (single - rows[:, None]).amin(0))
    # a mean would be that of a few neurons far from all others
    typical = float(_sample(duals.reduced(single)).median())
    for temperature, scalings in _LEVELS if typical > 0 else ():
        scale = temperature * typical
        kernel = duals.reduced(single).div_(-scale).clamp_(min=_SMALLEST).exp_()
        left, right = torch.ones_like(first), torch.ones_like(second)
        for _ in range(scalings):
            left = first / (kernel @ right)
            right = second / (kernel.T @ left)
        better = Duals(duals.rows + scale * left.log(), duals.columns + scale * right.log())
        # scalings overflow where some costs are far above the mean
        if not (better.rows.isfinite().all() and better.columns.isfinite().all()):
            break
        duals = better
    return Duals(duals.rows.double(), duals.columns.double())


def _sample(values: Tensor) -> Tensor:
    """Up to about 2¹⁶ of the values, evenly spread."""
    return values.flatten()[:: max(1, values.numel() // 2**16) | 1]


def _lowest(values: Tensor, count: int) -> Tensor:
    """Mark about as many of the lowest values; the threshold is that of a sample."""
    sample = _sample(values)
    rank = min(len(sample), max(1, round(count / values.numel() * len(sample))))
    return values <= sample.kthvalue(rank).values


def _staircase_edges(a: Weights, b: Weights, device: torch.device) -> Tensor:
    """The edges of the north-west corner plan, which make any sparse problem feasible."""
    plan = staircase(a, b)
    return torch.as_tensor(plan.rows * len(b) + plan.columns, device=device)


def _sparse(costs: Tensor, edges: Tensor) -> coo_matrix:
    """The costs of some pairs, by their flat indices."""
    rows, columns = np.divmod(edges.cpu().numpy(), costs.shape[1])
    return coo_matrix((costs.flatten()[edges].cpu().numpy(), (rows, columns)), tuple(costs.shape))
