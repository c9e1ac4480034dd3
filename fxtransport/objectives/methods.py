"""The objectives of the papers, by their names."""

from fxtransport.objectives.classification import CrossEntropy
from fxtransport.objectives.objective import Objective
from fxtransport.objectives.transport import TransportCost
from fxtransport.objectives.weights import (
    Fixed,
    Greedy,
    ModuleMultipliers,
    Multiplier,
    NoCost,
    Order,
)
from fxtransport.residue import Measure

_MEAN_SQUARE = TransportCost()


def lap(
    initial: float,
    rate: float,
    every: int,
    *,
    order: Order = "code",
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """The least action principle: L + C/λ, with λ += τ·L every s steps (LAP 5.3; THESIS 3.4).

    Published settings of (λ0, τ, s): MNIST (5, 1, 5), CIFAR10 (0.1, 0.1, 50), ResNeXt50 on
    CIFAR100 (1, 0.1, 5), circles (0.1, 0.1, 5).

    Args:
        initial: λ0.
        rate: τ.
        every: s.
        order: When λ is updated; see :class:`~fxtransport.objectives.weights.Multiplier`.
        cost: What each residual block costs.
        label_smoothing: Of the cross-entropy.
    """
    weighting = Multiplier(initial, rate, every, order)
    return Objective(CrossEntropy(label_smoothing), cost, weighting)


def fixed(
    weight: float, *, cost: Measure = _MEAN_SQUARE, label_smoothing: float = 0.0
) -> Objective:
    """A fixed weight: L + λ·C (THESIS F.3).

    Args:
        weight: λ.
        cost: What each residual block costs.
        label_smoothing: Of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), cost, Fixed(weight))


def trgl(
    tau: float,
    *,
    doubled: bool = False,
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """Transport-regularised greedy learning: module k minimises L + C_k/(2τ_k) (THESIS 4).

    Published settings: TinyImageNet τ = 500000, doubled; STL10 τ = 0.5, doubled; both with
    label smoothing 0.1.

    Args:
        tau: τ.
        doubled: Whether the second half of the modules has 2τ.
        cost: What each residual block costs.
        label_smoothing: Of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), cost, Greedy(tau, doubled))


def trgl_multipliers(
    initial: float,
    rate: float,
    every: int,
    *,
    order: Order = "code",
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """TRGL with multipliers: λ_k·L + C_k, with λ_k += h·L_k every s steps (THESIS eq. 33).

    Published setting of (λ, h, s): CIFAR100 (1, 1, 50).

    Args:
        initial: λ_k before the first step.
        rate: h.
        every: s.
        order: When λ_k is updated; see :class:`~fxtransport.objectives.weights.Multiplier`.
        cost: What each residual block costs.
        label_smoothing: Of the cross-entropy.
    """
    weighting = ModuleMultipliers(initial, rate, every, order)
    return Objective(CrossEntropy(label_smoothing), cost, weighting)


def plain(*, label_smoothing: float = 0.0) -> Objective:
    """The cross-entropy alone; no residue is measured.

    Args:
        label_smoothing: Of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), _MEAN_SQUARE, NoCost())


vangl = plain
"""Greedy learning without transport cost, of module-wise training: VanGL (THESIS 4)."""
