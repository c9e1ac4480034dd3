"""The facts that passes find out about a model, as frozen dataclasses.

Facts live here, never in strings on nodes. This package imports nothing of the library.
"""

from fxtransport.ir.checkpoints import Checkpoint, Checkpoints
from fxtransport.ir.choices import PUBLISHED, TAPPED_KINDS, Amp, Balance, HeadKind, Kind, Layout
from fxtransport.ir.constructs import Constructs, WatchedAttributes
from fxtransport.ir.graph import (
    Activation,
    Activations,
    Block,
    BlockInput,
    Layer,
    Layers,
    Origins,
    Residual,
    Residuals,
    Shapes,
    Tap,
    Taps,
    TensorSpec,
)
from fxtransport.ir.heads import HeadCost, HeadPlan, Heads, HeadSpec, PlannedHead
from fxtransport.ir.memory import (
    Crossing,
    HeadMemory,
    HeldStorage,
    OptimizerMemory,
    TrainingMemory,
)
from fxtransport.ir.partition import (
    Boundaries,
    Boundary,
    Costs,
    NodeCost,
    PartitionPlan,
    Segment,
    Value,
)
from fxtransport.ir.recording import (
    ALIAS,
    Addition,
    Call,
    Op,
    RecordedAdditions,
    RecordedLayer,
    RecordedLayers,
    Recording,
    Term,
)
from fxtransport.ir.verification import Check, VerificationReport

__all__ = [
    "ALIAS",
    "PUBLISHED",
    "TAPPED_KINDS",
    "Activation",
    "Activations",
    "Addition",
    "Amp",
    "Balance",
    "Block",
    "BlockInput",
    "Boundaries",
    "Boundary",
    "Call",
    "Check",
    "Checkpoint",
    "Checkpoints",
    "Constructs",
    "Costs",
    "Crossing",
    "HeadCost",
    "HeadKind",
    "HeadMemory",
    "HeadPlan",
    "HeadSpec",
    "Heads",
    "HeldStorage",
    "Kind",
    "Layer",
    "Layers",
    "Layout",
    "NodeCost",
    "Op",
    "OptimizerMemory",
    "Origins",
    "PartitionPlan",
    "PlannedHead",
    "RecordedAdditions",
    "RecordedLayer",
    "RecordedLayers",
    "Recording",
    "Residual",
    "Residuals",
    "Segment",
    "Shapes",
    "Tap",
    "Taps",
    "TensorSpec",
    "Term",
    "TrainingMemory",
    "Value",
    "VerificationReport",
    "WatchedAttributes",
]
