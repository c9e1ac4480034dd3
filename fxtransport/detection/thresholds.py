"""What tells clean images from others, chosen on images that were held out of the fitting."""

import numpy as np

from fxtransport.detection.calibration import Calibration
from fxtransport.detection.detector import FPR


def choose_threshold(calibration: Calibration, fpr: float = FPR) -> float:
    """The threshold by which images are told apart that were held out of the fitting.

    With attacked images among them it is the one of the largest balanced accuracy, half of the
    detection rate and the share of clean images that are not flagged, in the middle between two
    scores; of several, the largest. Without, it is that of a false-positive rate.

    Raises:
        UsageError: there are too few clean scores for the rate.
    """
    clean, attacked = calibration.clean, calibration.attacked
    if not len(attacked):
        return calibration.threshold_of_fpr(fpr)
    scores = np.unique(np.concatenate([clean, attacked]))
    middle = scores[:-1] + (scores[1:] - scores[:-1]) / 2
    candidates = np.concatenate([[np.nextafter(scores[0], -np.inf)], middle, scores[-1:]])
    flagged = 1 - np.searchsorted(clean, candidates, side="right") / len(clean)
    detected = 1 - np.searchsorted(attacked, candidates, side="right") / len(attacked)
    accuracy = detected - flagged
    return float(candidates[np.flatnonzero(accuracy == accuracy.max())[-1]])
