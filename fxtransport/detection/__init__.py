"""Detectors of adversarial and out-of-distribution inputs, from the trajectory of an image."""

from fxtransport.detection.extractor import Extractor
from fxtransport.detection.features import TransportFeatures
from fxtransport.detection.observations import Observations

__all__ = ["Extractor", "Observations", "TransportFeatures"]
