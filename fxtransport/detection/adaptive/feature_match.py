"""The second adaptive attack: features that are not detected, and an image that has them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fxtransport.detection.adaptive.watched import (
    Evasion,
    Progress,
    Watched,
    detected_rows,
    evasion,
    silent,
)
from fxtransport.detection.attacks.attack import Goal
from fxtransport.detection.attacks.attacked_set import AttackedSet
from fxtransport.detection.attacks.decision_attacks import HopSkipJump, PerImage
from fxtransport.detection.attacks.undisturbed import undisturbed
from fxtransport.errors import UsageError


@dataclass(frozen=True)
class FeatureMatch:
    """Settings of :func:`evade_by_features`.

    Args:
        search: HopSkipJump on the features.
        c1: The weight of the distance of features. The published one is not known.
        c2: The weight of the distance of images. Since −L has no bound, a small weight lets
            images run away; see :meth:`Evasion.rate_within`.
        iterations: Of L-BFGS-B for each image.

    Raises:
        UsageError: a weight is negative, or there are no iterations.
    """

    search: HopSkipJump = field(default_factory=HopSkipJump)
    c1: float = 10.0
    c2: float = 10.0
    iterations: int = 100

    def __post_init__(self) -> None:
        if not (self.c1 >= 0 and self.c2 >= 0 and self.iterations >= 1):
            raise UsageError(
                f"c1={self.c1}, c2={self.c2}, iterations={self.iterations}: weights are 0 or "
                "more, and iterations 1 or more"
            )


@dataclass(frozen=True, eq=False)
class Scale:
    """Brings features to 0 to 1, where HopSkipJump works; a feature that never varies is 0."""

    low: Tensor
    width: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        """Of all features, N×F, with a margin of their width on each side."""
        low, high = features.min(0).values, features.max(0).values
        return cls(low - (high - low), 3 * (high - low))

    def to_unit(self, features: Tensor) -> Tensor:
        """Features from 0 to 1."""
        width = self.width.where(self.width > 0, 1)
        return ((features - self.low) / width).clamp(0, 1)

    def back(self, unit: Tensor) -> Tensor:
        """The features again."""
        return self.low + unit * self.width


def evade_by_features(
    watched: Watched,
    attacked: AttackedSet,
    settings: FeatureMatch | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Evasion:
    """Find features that are not detected, then an image that has them and fools the network.

    For each image x̃ of class y that fools the network and is detected, HopSkipJump looks for
    the features z* nearest to those of x̃ that are not detected. Then L-BFGS-B, from x̃ and
    within 0 to 1, minimizes

        −L(N(x*), y) + c1·‖D(x*) − z*‖ + c2·‖x* − x‖

    where L is the cross-entropy, N the network, D its features and x the clean image (THESIS
    eq. 42, second attack). Features are divided by their standard deviation on clean images, for
    their units differ; the published distance does not say.

    Args:
        watched: The network and its detector; the features have gradients.
        attacked: Images of a strong attack on the network alone, such as CW.
        settings: Weights and budgets.
        seed: Determines what is random.
        progress: Is told how many detected images are attacked.

    Raises:
        UsageError: the attack was on another network, the features have no gradients, or
            foolbox is not installed.
    """
    settings = settings or FeatureMatch()
    with undisturbed(watched.module, attacked.clean.device, seed):
        rows = detected_rows(watched, attacked)
        found = torch.full_like(attacked.attacked[rows], float("nan"))
        if len(rows):
            wanted, spread = _undetected_features(watched, attacked, rows, settings.search)
            for place, row in enumerate(rows.tolist()):
                if wanted[place].isfinite().all():
                    problem = _Problem(watched, attacked, row, wanted[place], spread, settings)
                    found[place] = problem.solve()
                progress(place + 1, len(rows))
        return evasion(watched, attacked, rows, found)


class _OnFeatures(PerImage):
    """The detector as a classifier of features in [0, 1], B×F×1×1: 0 is clean, 1 is detected.

    The detector may ask which class is predicted, and that stays as it is.
    """

    def __init__(self, watched: Watched, scale: Scale, logits: Tensor) -> None:
        super().__init__()
        self.watched, self.scale, self.logits = watched, scale, logits
        self.training = False

    def take(self, rows: Tensor) -> "_OnFeatures":
        """The same with the logits of some images."""
        return _OnFeatures(self.watched, self.scale, self.logits[rows])

    def forward(self, unit: Tensor) -> Tensor:
        """One at the place of the decision, B×2."""
        flags = self.watched.flag(self.logits, self.scale.back(unit.flatten(1)))
        return F.one_hot(flags.long(), 2).float().to(unit.device)


def _undetected_features(
    watched: Watched, attacked: AttackedSet, rows: Tensor, search: HopSkipJump
) -> tuple[Tensor, Tensor]:
    """z* of each row, R×F, NaN where none is found; and the deviation of each feature, F."""
    _, clean, _ = watched.judge(attacked.clean)
    logits, features, _ = watched.judge(attacked.attacked[rows])
    scale = Scale.of(torch.cat([clean, features]))
    spread = clean.std(0)
    # foolbox takes images
    known, units = (scale.to_unit(one)[:, :, None, None] for one in (clean, features))
    decide = _OnFeatures(watched, scale, logits)
    starts = torch.full_like(units, float("nan"))
    # by rounding, features may not be detected in the scale; those are left out
    for place in decide(units).argmax(1).nonzero().squeeze(1):
        own = decide.take(place.expand(len(known)))
        good = known[own(known).argmax(1) == 0]
        if len(good):
            starts[place] = good[(good - units[place]).flatten(1).norm(dim=1).argmin()]
    goal = Goal(torch.ones(len(rows), dtype=torch.int64, device=units.device))
    found = search.approach(decide, units, starts, goal)
    return scale.back(found.flatten(1)), spread.where(spread > 0, 1)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Equation 42 of one image."""

    watched: Watched
    attacked: AttackedSet
    row: int
    wanted: Tensor
    spread: Tensor
    settings: FeatureMatch

    def solve(self) -> Tensor:
        """The image that L-BFGS-B finds, C×H×W."""
        from scipy.optimize import minimize

        start = self.attacked.attacked[self.row]
        found = minimize(
            self._value_and_slope,
            start.detach().cpu().double().numpy().reshape(-1),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * start.numel(),
            options={"maxiter": self.settings.iterations},
        )
        return torch.as_tensor(found.x).reshape(start.shape).to(start).clamp(0, 1)

    def _value_and_slope(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[Any]]:
        clean = self.attacked.clean[self.row : self.row + 1]
        image = torch.as_tensor(flat).reshape(clean.shape).to(clean).requires_grad_()
        value = self._value(image, clean)
        [slope] = torch.autograd.grad(value, image)
        return value.item(), slope.cpu().double().numpy().reshape(-1)

    def _value(self, image: Tensor, clean: Tensor) -> Tensor:
        label = self.attacked.labels[self.row : self.row + 1]
        logits, features = self.watched.extract(image)
        if not features.requires_grad:
            raise UsageError(
                "the features have no gradients: give a differentiable extractor, such as "
                "TransportFeatures(program, differentiable=True)"
            )
        matched = ((features[0] - self.wanted) / self.spread).norm()
        moved = (image - clean).norm()
        loss = F.cross_entropy(logits, label)
        value: Tensor = -loss + self.settings.c1 * matched + self.settings.c2 * moved
        return value
