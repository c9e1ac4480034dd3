"""Exact plans between as many neurons as there are: assignments."""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[Any]
"""A matrix of float32 or float64."""
Indices = NDArray[np.int64]


@cache
def has_lapx() -> bool:
    """Whether lapx is installed. The package ``lap`` has the same name, but not its solver."""
    try:
        return hasattr(import_module("lap"), "lapjvr")
    except ImportError:
        return False


def by_lapx(costs: Floats) -> Indices:
    """Solve by lapx's Jonker-Volgenant solver: for each row its column."""
    _, columns = import_module("lap").lapjvr(costs, return_cost=False)
    return np.asarray(columns, np.int64)


def by_scipy(costs: Floats) -> Indices:
    """Solve by SciPy's modified Jonker-Volgenant solver: for each row its column."""
    _, columns = linear_sum_assignment(costs)
    return np.asarray(columns, np.int64)


def share_of_distinct(costs: Floats) -> float:
    """The share of columns among those nearest to the rows: near 1 for networks that are close."""
    return len(np.unique(costs.argmin(1))) / len(costs)


def prefer_diagonal(columns: Indices, alike: NDArray[np.bool_]) -> Indices:
    """Exchange columns among rows that are alike, so that rows get their own where they can.

    Args:
        columns: The column of each row.
        alike: Which rows have the same costs, dead neurons say: exchanges among them cost nothing.
    """
    group = np.flatnonzero(alike)
    if len(group) < 2:
        return columns
    given = columns[group]
    stays = np.isin(group, given)
    exchanged = columns.copy()
    exchanged[group[stays]] = group[stays]
    exchanged[group[~stays]] = np.setdiff1d(given, group[stays], assume_unique=True)
    return exchanged
