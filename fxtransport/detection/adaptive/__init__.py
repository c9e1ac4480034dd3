"""Attacks on a network and its detector together (THESIS 5.4.5)."""

from fxtransport.detection.adaptive.black_box import evade_by_decisions
from fxtransport.detection.adaptive.feature_match import FeatureMatch, evade_by_features
from fxtransport.detection.adaptive.gradients import GradientEvasion, evade_by_gradients
from fxtransport.detection.adaptive.reading import Reading
from fxtransport.detection.adaptive.surrogate import Surrogate
from fxtransport.detection.adaptive.watched import Evasion, Watched

__all__ = [
    "Evasion",
    "FeatureMatch",
    "GradientEvasion",
    "Reading",
    "Surrogate",
    "Watched",
    "evade_by_decisions",
    "evade_by_features",
    "evade_by_gradients",
]
