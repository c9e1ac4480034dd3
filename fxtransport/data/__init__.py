"""Data sets, embedded or opened by timm, with splits and batches in a reproducible order."""

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
