"""The auxiliary classifiers: what one would be at each boundary, and the ones that are built."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxtransport.ir.choices import HeadKind, Layout


@dataclass(frozen=True)
class HeadSpec:
    """An auxiliary classifier to be built."""

    kind: HeadKind
    layouts: tuple[Layout, ...] = ()
    """Where each hidden tensor that it reads keeps its channels."""
    channels: tuple[int, ...] = ()
    """The channels of each."""
    inputs: tuple[int, ...] = ()
    """Which these are, as positions in the ``crossing`` of the boundary."""
    dims: int = 0
    """Spatial dimensions of the map that a convolutional head reads; 0 for others."""
    width: int = 0
    """Channels inside a convolutional head; 0 for others."""
    pooled: int = 0
    """Positions, in each spatial dimension, that a small convolutional head pools the map to
    before its convolutions; 0 for others."""
    num_classes: int = 0
    """Logits; 0 if there is no auxiliary head."""
    dtype: str = "float32"
    """Of what it reads, and so of its parameters: the name after ``torch.``."""


@dataclass(frozen=True)
class HeadCost:
    """What a head costs."""

    parameters: int = 0
    flops: int = 0
    """Floating-point operations of the forward pass for one sample."""
    activation_bytes: int = 0
    """Bytes that it saves for backward, but for the hidden tensors that its part saves anyway."""


@dataclass(frozen=True)
class PlannedHead:
    """The head that a boundary would have, if the graph were cut there."""

    spec: HeadSpec
    cost: HeadCost = HeadCost()
    """Its own; the hidden tensors that it reads are not included."""
    hidden: Mapping[int, int] = field(default_factory=dict)
    """Bytes of each storage of a hidden tensor that it saves for backward, by storage number.
    Where its part saves that storage anyway, it costs nothing more."""
    least_flops: float = 0.0
    """The FLOPs of the smallest part that it is not too large for."""
    least_activation_bytes: float = 0.0
    """The bytes that this part saves for backward, without a head."""
    larger: tuple["PlannedHead", ...] = ()
    """Heads to prefer to it, the later the rather, where the part is large enough for them."""


@dataclass(frozen=True)
class Heads:
    """The heads of all boundaries, by the node that a boundary is ``after``."""

    planned: Mapping[str, PlannedHead]
    refused: Mapping[str, str]
    """Why there can be no head of the kind asked for, where there can be none."""


@dataclass(frozen=True)
class HeadPlan:
    """One head for each part; the last part has the model's own."""

    heads: tuple[HeadSpec, ...]
    costs: tuple[HeadCost, ...]
    """What each adds to its part; the last adds nothing, as the model's own nodes are counted."""
