"""The detectors by name; their files are imported when they are asked for."""

import difflib
import os
from importlib import import_module
from typing import Any

from fxtransport.detection.detector import Detector
from fxtransport.detection.head import Head
from fxtransport.detection.saved import read
from fxtransport.errors import SavedDetectorError, UsageError

_ROOM = "fxtransport.detection"
_HOMES = {
    "ash": "ood_heads:ASH",
    "combined": "forest:CombinedForest",
    "dice": "ood_heads:DICE",
    "energy": "ood_logits:Energy",
    "entropy": "ood_logits:Entropy",
    "fdbd": "ood_heads:FDBD",
    "gen": "ood_logits:GEN",
    "gmm": "ood_features:GMM",
    "gradnorm": "ood_heads:GradNorm",
    "kl-matching": "ood_logits:KLMatching",
    "knn": "ood_features:KNN",
    "laplacian": "forest:LaplacianForest",
    "layer-inconsistency": "inconsistency:LayerInconsistency",
    "lid": "lid:LidForest",
    "logits": "forest:LogitsForest",
    "lts": "ood_heads:LTS",
    "mahalanobis": "mahalanobis:Mahalanobis",
    "max-logit": "ood_logits:MaxLogit",
    "max-softmax": "ood_logits:MaxSoftmax",
    "nci": "ood_heads:NCI",
    "nnguide": "ood_heads:NNGuide",
    "nss": "forest:NssForest",
    "odin": "odin:Odin",
    "one-class": "one_class:OneClass",
    "pnml": "ood_heads:PNML",
    "quantile": "quantile:QuantileRule",
    "react": "ood_heads:ReAct",
    "relative-mahalanobis": "ood_features:RelativeMahalanobis",
    "scale": "ood_heads:SCALE",
    "she": "ood_heads:SHE",
    "transport": "forest:TransportForest",
    "vim": "ood_heads:ViM",
    "vra": "ood_heads:VRA",
}
"""Of each name, the file and the class."""


def detector_names() -> tuple[str, ...]:
    """The names of all detectors, in alphabetical order."""
    return tuple(sorted(_HOMES))


def detector_class(name: str) -> type[Detector]:
    """The class of a detector.

    >>> detector_class("energy").reads
    ('logits',)

    Raises:
        UsageError: there is no detector of this name.
    """
    if name not in _HOMES:
        close = difflib.get_close_matches(name, _HOMES, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(_HOMES)}"
        raise UsageError(f"there is no detector {name!r}; {hint}")
    file, _, attribute = _HOMES[name].partition(":")
    found: type[Detector] = getattr(import_module(f"{_ROOM}.{file}"), attribute)
    return found


def make_detector(name: str, head: Head | None = None, **options: Any) -> Detector:
    """A detector that is to be fitted.

    Args:
        name: One of :func:`detector_names`.
        head: The classifier, for those that need it; the others are made without.
        options: Of the detector.

    Raises:
        UsageError: there is no such detector, it cannot have these options, or it needs a head.
    """
    kind = detector_class(name)
    if getattr(kind, "needs_head", False):
        options = {"head": head, **options}
    try:
        return kind(**options)
    except TypeError as error:
        raise UsageError(f"{name} has no such option: {error}") from error


def open_detector(folder: str | os.PathLike[str]) -> Detector:
    """The detector that is saved in a folder, whichever it is; see :meth:`Detector.load`.

    Raises:
        SavedDetectorError: there is none, or a damaged one, or one that this version lacks.
    """
    saved = read(folder)
    if saved.detector not in _HOMES:
        raise SavedDetectorError(
            f"{folder} holds the detector {saved.detector!r}, which this version of fxtransport "
            "lacks; load it with the version that saved it"
        )
    return detector_class(saved.detector).restored(saved, folder)
