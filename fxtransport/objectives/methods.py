"""The objectives of the papers, by their names."""

from collections.abc import Sequence

from fxtransport.objectives.classification import CrossEntropy, ReverseCrossEntropy
from fxtransport.objectives.multipliers import (
    FixedMultiplier,
    LapMultipliers,
    NoMultiplier,
    Order,
    TauMultipliers,
    TrglMultipliers,
)
from fxtransport.objectives.objective import Objective
from fxtransport.objectives.transport import TransportCost
from fxtransport.residue import Measure

_MEAN_SQUARE = TransportCost()


def lap(
    lambda0: float,
    lambda_rate: float,
    update_every: int,
    *,
    order: Order = "code",
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """The least action principle: L + C/λ, with λ += τ·L every s steps (LAP 5.3; THESIS 3.4).

    Published settings of (λ0, τ, s): MNIST (5, 1, 5), CIFAR10 (0.1, 0.1, 50), ResNeXt50 on
    CIFAR100 (1, 0.1, 5), circles (0.1, 0.1, 5).

    Args:
        lambda0: λ0, λ before the first step.
        lambda_rate: τ, by which the loss is multiplied before it is added to λ.
        update_every: s, the number of steps between two updates.
        order: When λ is updated. ``code``: steps count from 1, and those that s divides update
            λ from their own loss and use it at once, as in the released code. ``text``: λ is
            updated after s steps from the first loss of the new parameters, and used from that
            batch on.
        cost: The cost of a residual block.
        label_smoothing: The label smoothing of the cross-entropy.
    """
    multipliers = LapMultipliers(lambda0, lambda_rate, update_every, order)
    return Objective(CrossEntropy(label_smoothing), cost, multipliers)


def fixed(
    lambda0: float, *, cost: Measure = _MEAN_SQUARE, label_smoothing: float = 0.0
) -> Objective:
    """A constant multiplier: L + λ·C (THESIS F.3).

    Args:
        lambda0: λ.
        cost: The cost of a residual block.
        label_smoothing: The label smoothing of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), cost, FixedMultiplier(lambda0))


def trgl(
    tau: float | Sequence[float],
    *,
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """Transport-regularized greedy learning: part k minimizes L + C_k/(2τ_k) (THESIS 4).

    Published settings: TinyImageNet τ = 500000, STL10 τ = 0.5; both with label smoothing 0.1,
    and with 2τ for the second half of the parts.

    Args:
        tau: τ of every part; or a sequence with one value for each part, such as
            ``[0.5, 0.5, 1.0, 1.0]``.
        cost: The cost of a residual block.
        label_smoothing: The label smoothing of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), cost, TauMultipliers(tau))


def trgl_multipliers(
    lambda0: float,
    lambda_rate: float,
    update_every: int,
    *,
    order: Order = "code",
    cost: Measure = _MEAN_SQUARE,
    label_smoothing: float = 0.0,
) -> Objective:
    """TRGL with multipliers: λ_k·L + C_k, with λ_k += h·L_k every s steps (THESIS eq. 33).

    Published setting of (λ, h, s): CIFAR100 (1, 1, 50).

    Args:
        lambda0: λ_k before the first step.
        lambda_rate: h, by which the loss is multiplied before it is added to λ_k.
        update_every: s, the number of steps between two updates.
        order: When λ_k is updated; see :func:`lap`.
        cost: The cost of a residual block.
        label_smoothing: The label smoothing of the cross-entropy.
    """
    multipliers = TrglMultipliers(lambda0, lambda_rate, update_every, order)
    return Objective(CrossEntropy(label_smoothing), cost, multipliers)


def plain(*, label_smoothing: float = 0.0) -> Objective:
    """The cross-entropy alone; no residue is measured.

    Args:
        label_smoothing: The label smoothing of the cross-entropy.
    """
    return Objective(CrossEntropy(label_smoothing), _MEAN_SQUARE, NoMultiplier())


vangl = plain
"""Vanilla greedy learning (VanGL): training part by part without a transport cost (THESIS 4)."""


def rce() -> Objective:
    """The reverse cross-entropy alone, with which THESIS 5.4 compares; no residue is measured.

    Other objectives take it in the place of the cross-entropy:
    ``Objective(ReverseCrossEntropy(), cost, multipliers)``.
    """
    return Objective(ReverseCrossEntropy(), _MEAN_SQUARE, NoMultiplier())
