"""Attacks on a network and its detector together, for the detection benchmark (THESIS 5.4.5)."""

from typing import Any

import torch
from detection_nets import Net
from torch import Tensor, nn

from fxtransport.detection import Extractor, Observations
from fxtransport.detection.adaptive import (
    FeatureMatch,
    GradientEvasion,
    Surrogate,
    Watched,
    evade_by_decisions,
    evade_by_features,
    evade_by_gradients,
)
from fxtransport.detection.adaptive.surrogate import log_energies
from fxtransport.detection.attacks import AttackedSet
from fxtransport.detection.attacks.decision_attacks import HopSkipJump
from fxtransport.detection.detector import Detector

ATTACKED = ("transport", "mahalanobis", "one-class", "max-softmax")
"""The detectors that are attacked: those whose features have gradients."""
GROWTH = 2.0
"""How many times as far away as before an image may be, to count as an attack."""


class Features(nn.Module):
    """From pixels to logits, and to what a detector reads, side by side."""

    def __init__(self, net: Net, reads: tuple[str, ...]) -> None:
        super().__init__()
        self.extractor = Extractor(net.program, mean=net.mean, std=net.std, differentiable=True)
        self.reads = reads
        self.widths: dict[str, int] = {}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B×classes, and B×F."""
        arrays = self.extractor(images)
        kept = {
            name: value
            for name, value in arrays.items()
            if name in self.reads or name.partition(".")[0] in self.reads
        }
        self.widths = {name: value.shape[1] for name, value in kept.items()}
        return arrays["logits"], torch.cat([*kept.values()], 1)

    def observations(self, logits: Tensor, features: Tensor) -> Observations:
        """What the detector reads."""
        parts = features.split([*self.widths.values()], 1)
        named = dict(zip(self.widths, parts, strict=True))
        values = {"logits": logits, **named}
        return Observations({name: value.detach().numpy() for name, value in values.items()})


def evasions(
    net: Net, detector: Detector, threshold: float, attacked: AttackedSet, seed: int, quick: bool
) -> dict[str, dict[str, float]]:
    """What share of detected images evades, by the attack on network and detector.

    Args:
        net: The network.
        detector: A fitted detector.
        threshold: What the scores of flagged images exceed.
        attacked: Images of CW that the detector was not fitted on.
        seed: Determines what is random.
        quick: With small budgets.
    """
    features = Features(net, detector.reads)

    def flag(logits: Tensor, values: Tensor) -> Tensor:
        scores = detector.score(features.observations(logits, values))
        return torch.from_numpy(scores > threshold)

    watched = Watched(features, flag)
    search = HopSkipJump(steps=2 if quick else 10, evaluations=10 if quick else 30)
    logits, values, _ = watched.judge(attacked.clean)
    transform = log_energies if detector.reads == ("transport",) else None
    surrogate = Surrogate.fit(logits, values, transform or (lambda rows: rows))
    match = FeatureMatch(search, iterations=5 if quick else 50)
    climb = GradientEvasion(epsilon=0.3, steps=20 if quick else 100)
    found: dict[str, Any] = {
        "decisions": evade_by_decisions(watched, attacked, search, seed=seed),
        "features": evade_by_features(watched, attacked, match, seed=seed),
        "gradients": evade_by_gradients(watched, attacked, surrogate, climb, seed=seed),
    }
    return {
        name: {
            "detected": len(one.rows),
            "rate": one.rate,
            "rate_within": one.rate_within(GROWTH),
        }
        for name, one in found.items()
    }
