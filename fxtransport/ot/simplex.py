"""POT's network simplex, with its dual potentials and whether it found an optimum."""

import warnings
from typing import Any, NamedTuple

import numpy as np
import ot
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from fxtransport.ot.coupling import Coupling, Weights

ITERATIONS = 10_000_000
"""At most; POT's own limit ends too early at 2048×2048."""
_OPTIMAL = 1


class Vertex(NamedTuple):
    """Where the network simplex ended."""

    plan: Coupling
    rows: NDArray[np.float64]
    """The potentials of the rows."""
    columns: NDArray[np.float64]
    """The potentials of the columns."""
    problem: str
    """Why the plan is not optimal; empty if it is."""


def network_simplex(a: Weights, b: Weights, costs: NDArray[Any] | coo_matrix) -> Vertex:
    """Solve a problem in which all weights are positive.

    Args:
        a: The weight of each row.
        b: The weight of each column, with the same sum.
        costs: d×d', all of them, or those of some pairs only.

    Returns:
        The plan, with at most d + d' − 1 edges, and its potentials, feasible for the given pairs.
    """
    with warnings.catch_warnings():
        # what POT warns of is returned
        warnings.simplefilter("ignore", UserWarning)
        plan, log = ot.emd(a, b, costs, numItermax=ITERATIONS, log=True, center_dual=False)
    sparse = coo_matrix(plan)
    coupling = Coupling(sparse.row.astype(np.int64), sparse.col.astype(np.int64), sparse.data)
    problem = "" if log["result_code"] == _OPTIMAL else str(log["warning"])
    return Vertex(coupling.where(sparse.data > 0), log["u"], log["v"], problem)
