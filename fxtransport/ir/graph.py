"""What is known of the nodes of a graph.

Nodes are referred to by name. A node's name is made of the path of the module that runs the
operation, the operation, and, from the second on, its occurrence, so it is stable between two
compilations of one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fxtransport.ir.choices import TAPPED_KINDS, Kind, Layout


@dataclass(frozen=True)
class TensorSpec:
    """What is known of a node's value without computing it."""

    shape: tuple[int, ...]
    """Dimensions at the example's batch size."""
    dtype: str
    """The name after ``torch.``: ``float32``."""
    bytes: int
    """Size in memory at the example's batch size."""


@dataclass(frozen=True)
class Shapes:
    """The tensor that each node computes; nodes that compute none are missing."""

    specs: Mapping[str, TensorSpec]
    compound: frozenset[str]
    """The nodes that compute several tensors."""
    batch_size: int
    """The batch size of the example, to which the shapes belong."""


@dataclass(frozen=True)
class Origins:
    """Where a graph's nodes come from."""

    owners: Mapping[str, str]
    """For each node, the path of the module whose code made it."""
    op_nodes: tuple[str, ...]
    """For each operation of the recording, the node that runs it."""
    operands: tuple[tuple[str | None, ...], ...]
    """For each operation, the nodes that its tensors come from; None inside a closed module."""
    opened: frozenset[str]
    """The paths of the modules that are not nodes themselves."""

    def with_choices(self, choices: Mapping[tuple[str, str], str]) -> "Origins":
        """What nodes come from once operands were replaced by a choice between two modes."""
        operands = tuple(
            tuple(o and choices.get((node, o), o) for o in own)
            for node, own in zip(self.op_nodes, self.operands, strict=True)
        )
        return replace(self, operands=operands)


@dataclass(frozen=True)
class Residual:
    """One residual addition y = skip + branch."""

    path: str
    """The path of the module that performs the addition; the root is ``""``."""
    kind: Kind
    node: str
    """The addition; for an inner one, the node that holds it."""
    skip: str | None
    """The skip operand; None for an inner addition inside a closed module."""
    branch: tuple[str, ...]
    """The other operands; several where parallel branches are added to one skip."""
    shape: tuple[int, ...]
    """The sum's shape without the batch dimension."""
    stage: int
    """Counts runs of residual additions of one shape, from 0."""

    @property
    def tapped(self) -> bool:
        """Whether the residue is an output of the program."""
        return self.kind in TAPPED_KINDS


@dataclass(frozen=True)
class Residuals:
    """All residual additions, in execution order."""

    found: tuple[Residual, ...]

    @property
    def tapped(self) -> tuple[Residual, ...]:
        """The additions whose residues are outputs of the program."""
        return tuple(r for r in self.found if r.tapped)


@dataclass(frozen=True)
class Layer:
    """A convolution-norm-activation unit that keeps the shape: x_{m+1} = g_m(x_m)."""

    path: str
    """The path of the convolution or linear module."""
    input: str
    """The node that computes x_m."""
    output: str
    """The node that computes x_{m+1}."""
    shape: tuple[int, ...]
    """Their shape without the batch dimension."""
    stage: int


@dataclass(frozen=True)
class Layers:
    """All equal-dimension layers, in execution order; none where there are residuals."""

    found: tuple[Layer, ...]


@dataclass(frozen=True)
class BlockInput:
    """What a block starts from whose skip is a projection, and has another width than x_{m+1}."""

    node: str
    """The node that holds x_m."""
    shape: tuple[int, ...]
    """The shape of x_m without the batch dimension."""
    channels: int
    """The dimension of its channels, batch dimension included."""
    output_channels: int
    """That of the channels of x_{m+1}."""


@dataclass(frozen=True)
class Tap:
    """One residual block, or equal-dimension layer: the nodes that hold its values."""

    kind: Kind
    residue: str
    """What is added to the skip; of a layer, x_{m+1} - x_m."""
    branch: tuple[str, ...]
    """The terms that are added to the skip; none where the residue is a difference, as that of
    a layer, or of a sum whose other terms are computed by the operation that adds them."""
    skip: str
    """What they are added to; of a layer, x_m."""
    sum: str
    """The addition; of a layer, x_{m+1}."""
    output: str
    """x_{m+1}: the sum, or the activation, if that alone follows it."""
    input: BlockInput | None = None
    """x_m of a projection, where that was asked for; the skip is what the shortcut makes of it."""


@dataclass(frozen=True)
class Block:
    """What users know of a residual block, or equal-dimension layer, that is tapped."""

    path: str
    """The path of the module that adds; of a layer, that of its convolution."""
    kind: Kind
    shape: tuple[int, ...]
    """The shape of the residue without the batch dimension."""
    stage: int
    """Counts runs of blocks of one shape, from 0."""
    layout: Layout
    """Where the residue keeps its channels."""
    input: BlockInput | None = None
    """x_m of a projection, where the program hands it on with the residue."""

    @property
    def channels(self) -> int:
        """The dimension of the channels, batch dimension included."""
        return self.layout.channels(len(self.shape) + 1)


@dataclass(frozen=True)
class Activation:
    """A value that is tapped by name."""

    name: str
    """What the user calls it: the path of a module, the name of a node, or ``penultimate``."""
    node: str


@dataclass(frozen=True)
class Activations:
    """The values that are to be tapped by name, in execution order."""

    found: tuple[Activation, ...]


@dataclass(frozen=True)
class Taps:
    """The residual blocks whose residues are outputs of the program, in execution order."""

    found: tuple[Tap, ...]
    added: tuple[str, ...]
    """The nodes that were made for them and that the model's output does not need."""
    activations: tuple[Activation, ...] = ()
    """What else is measured, in execution order."""

    @property
    def residues(self) -> tuple[str, ...]:
        """The nodes whose values are residues."""
        return tuple(tap.residue for tap in self.found)
