"""Exact plans by pruning: a sparse problem on few edges, whose duals are checked on all.

Approximate dual potentials tell which pairs of neurons may share mass in an optimal plan. The
network simplex then runs on those. Its own potentials prove that the plan is optimal for the full
problem, or name the edges that are missing.
"""

from typing import NamedTuple

import numpy as np
import ot
import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from fxtransport.ot.costs import places
from fxtransport.ot.coupling import Coupling, Indices, Weights, split_rows, staircase

ITERATIONS = 10_000_000
"""Of the network simplex; POT's own default ends too early at 2048×2048."""
_ROUNDS = 8
_EDGES = 8
"""Edges kept for each neuron of the larger side."""
_LEVELS = ((0.1, 4), (0.02, 16))
"""Of the entropic problems that give the potentials: the temperature relative to the mean cost,
and the number of scalings."""
_SMALLEST = -80.0
"""Of exponents: what lies below makes float32 numbers that are slow to compute with."""
_TOLERANCE = 1e-12
"""By how much a reduced cost may be negative, relative to the largest cost."""
_SOLVED = 1
"""The network simplex's code for an optimal plan."""


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
    kept = _lowest(duals.reduced(costs), _EDGES * max(costs.shape))
    kept.flatten()[_staircase_edges(a, b, costs.device)] = True
    for _ in range(_ROUNDS):
        edges = places(kept)
        if 3 * len(edges) > kept.numel():
            return None
        plan, duals = _simplex(costs, a, b, edges)
        if plan is None:
            return None
        violated = duals.reduced(costs) < -_TOLERANCE * float(costs.max())
        if not violated.any():
            return plan
        kept |= violated
    return None


def _approximate_duals(costs: Tensor, a: Weights, b: Weights) -> Duals:
    """Potentials by Sinkhorn's scalings at falling temperatures, in float32."""
    single = costs.float()
    first = torch.as_tensor(a, dtype=torch.float32, device=costs.device)
    second = torch.as_tensor(b, dtype=torch.float32, device=costs.device)
    rows = single.amin(1)
    duals = Duals(rows, (single - rows[:, None]).amin(0))
    mean = float(single.mean())
    for temperature, scalings in _LEVELS:
        scale = temperature * mean
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


def _lowest(values: Tensor, count: int) -> Tensor:
    """Mark about as many of the lowest values; the threshold is that of a sample."""
    step = max(1, values.numel() // 2**16) | 1
    sample = values.flatten()[::step]
    rank = min(len(sample), max(1, round(count / values.numel() * len(sample))))
    return values <= sample.kthvalue(rank).values


def _staircase_edges(a: Weights, b: Weights, device: torch.device) -> Tensor:
    """The edges of the north-west corner plan, which make any sparse problem feasible."""
    plan = staircase(a, b)
    return torch.as_tensor(plan.rows * len(b) + plan.columns, device=device)


def _simplex(costs: Tensor, a: Weights, b: Weights, edges: Tensor) -> tuple[Coupling | None, Duals]:
    """Solve on some edges only; the plan is None where the solver gave up."""
    values = costs.flatten()[edges].cpu().numpy()
    rows, columns = np.divmod(edges.cpu().numpy(), len(b))
    sparse = coo_matrix((values, (rows, columns)), shape=tuple(costs.shape))
    plan, log = ot.emd(a, b, sparse, numItermax=ITERATIONS, log=True, center_dual=False)
    duals = Duals(*(torch.as_tensor(log[name], device=costs.device) for name in "uv"))
    if log["result_code"] != _SOLVED:
        return None, duals
    carried = plan.data > 0
    return Coupling(
        plan.row[carried].astype(np.int64), plan.col[carried].astype(np.int64), plan.data[carried]
    ), duals
