"""Optimal transport between the neurons of networks: plans, their costs, and solvers.

``plan`` and ``omega`` stand alone: they take two matrices of activations, neurons × samples.
``solve`` returns a plan with its errors. ``choices`` says which solvers were used, and ``counts``
how often something was not as one would expect.
"""

from fxtransport.ot.notices import TransportWarning, choices, counts
from fxtransport.ot.omega import omega
from fxtransport.ot.plans import Solution, plan, solve

__all__ = ["Solution", "TransportWarning", "choices", "counts", "omega", "plan", "solve"]
