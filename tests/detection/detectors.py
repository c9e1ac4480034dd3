"""Detectors of attacked digits, each fitted once for all tests."""

from functools import cache

from fxtransport.detection.detector import Detector
from fxtransport.detection.forest import (
    CombinedForest,
    LaplacianForest,
    LogitsForest,
    NssForest,
    TransportForest,
)
from fxtransport.detection.holding_out import hold_out
from fxtransport.detection.lid import LidForest
from fxtransport.detection.one_class import OneClass
from fxtransport.detection.quantile import QuantileRule
from tests.detection.digits import Digits, digits

FORESTS: list[type[Detector]] = [
    TransportForest, LogitsForest, LaplacianForest, NssForest, LidForest, CombinedForest,
]  # fmt: skip
OF_CLEAN: list[type[Detector]] = [QuantileRule, OneClass]
ALL = FORESTS + OF_CLEAN


@cache
def parts() -> tuple[Digits, Digits]:
    """Digits to fit on, and others."""
    found = digits()
    rows = hold_out(found.clean, found.attacked, 0.4, 7)
    return (
        Digits(found.clean.take(rows.clean), found.attacked.take(rows.attacked), found.accuracy),
        Digits(
            found.clean.take(rows.held_clean),
            found.attacked.take(rows.held_attacked),
            found.accuracy,
        ),
    )


@cache
def fitted(kind: type[Detector]) -> Detector:
    """A detector that is fitted on the first part; leave it as it is."""
    first, _ = parts()
    return kind().fit(first.clean, first.attacked)
