"""Detectors of adversarial and out-of-distribution inputs, from the trajectory of an image."""

from fxtransport.detection.detector import Detector
from fxtransport.detection.extractor import Extractor
from fxtransport.detection.features import TransportFeatures
from fxtransport.detection.head import Head
from fxtransport.detection.observations import Observations
from fxtransport.detection.registry import (
    detector_class,
    detector_names,
    make_detector,
    open_detector,
)

__all__ = [
    "Detector",
    "Extractor",
    "Head",
    "Observations",
    "TransportFeatures",
    "detector_class",
    "detector_names",
    "make_detector",
    "open_detector",
]
