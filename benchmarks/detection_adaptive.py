"""Attacks on a network and its detector together, for the detection benchmark (THESIS 5.4.5)."""

from typing import Any

from detection_nets import Net

from fxtransport.detection import Extractor
from fxtransport.detection.adaptive import (
    FeatureMatch,
    GradientEvasion,
    Reading,
    Surrogate,
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
    extractor = Extractor(net.program, mean=net.mean, std=net.std, differentiable=True)
    watched = Reading(extractor, detector.reads).watched_by(detector, threshold)
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
