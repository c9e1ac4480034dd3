"""What is trained on: embedded sets and timm's, cut into splits, in a reproducible order."""

from fxtransport.data.splits import Splits, load
from fxtransport.data.streams import (
    Batch,
    EvalStream,
    OrderedStream,
    Samples,
    ShuffledStream,
    TensorSamples,
    TrainStream,
)

__all__ = [
    "Batch",
    "EvalStream",
    "OrderedStream",
    "Samples",
    "ShuffledStream",
    "Splits",
    "TensorSamples",
    "TrainStream",
    "load",
]
