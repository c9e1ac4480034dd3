"""The facts that passes find out about a model, as frozen dataclasses.

Nodes are referred to by name. A node's name is made of the path of the module that runs
the operation, the operation, and, from the second on, its occurrence, so it is stable
between two compilations of one model. Facts live here, never in strings on nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the skip operand of a residual addition is; see ``docs/residuals.md``."""

    IDENTITY = "identity"
    """The block's input itself, or a view or slice of it."""
    PROJECTION = "projection"
    """The block's input through a learned, scaled or pooling shortcut."""
    IDENTITY_BN = "identity_bn"
    """The block's input through a bare batch normalisation."""
    INNER = "inner"
    """Inside a branch, not the block's own addition; never tapped."""


TAPPED_KINDS = (Kind.IDENTITY, Kind.PROJECTION, Kind.IDENTITY_BN)
"""Kinds whose residues are outputs of a program."""


class Balance(StrEnum):
    """What the modules of a partition have in equal amounts."""

    DEPTH = "depth"
    """Residual blocks (THESIS 4.5.3, equally deep)."""
    WEIGHT = "weight"
    """A cost (THESIS 4.5.3, equally heavy)."""


class Weight(StrEnum):
    """The cost that is balanced when modules are equally heavy."""

    ACTIVATIONS = "activations"
    """Bytes saved for backward at a batch size."""
    PARAMETERS = "parameters"
    """Number of parameters."""
    FLOPS = "flops"
    """Floating-point operations of one forward pass of one sample, a multiply-add as two."""


class HeadKind(StrEnum):
    """The architecture of an auxiliary classifier."""

    AUTO = "auto"
    """Chosen by the layout of the hidden tensor."""
    CONV = "conv"
    """3×3 convolution, ReLU, average pool, batch norm, linear (DGL style)."""
    TOKEN = "token"
    """Layer norm, mean over positions, linear."""
    NONE = "none"
    """No auxiliary classifier."""
    MODEL = "model"
    """The model's own head, at the end of the last module."""


class Layout(StrEnum):
    """Where a hidden tensor keeps its channels."""

    CHANNELS_FIRST = "channels_first"
    """B×C, followed by any number of positions: NCHW, NCDHW."""
    CHANNELS_LAST = "channels_last"
    """B, any number of positions, C: NHWC, B×N×C."""
    VECTOR = "vector"
    """B×C."""


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
class Boundary:
    """A place where the graph may be cut."""

    after: str
    """The last node before the cut."""
    crossing: tuple[str, ...]
    """The nodes whose values the part behind the cut needs, in execution order."""
    tensors: tuple[str, ...]
    """Those of them that are tensors which depend on the input."""
    units: int
    """How many depth units (residuals, or layers) lie before the cut."""
    path: str
    """Where the cut falls, in the user's words: the outermost module it follows."""

    @property
    def single(self) -> bool:
        """Whether a single tensor crosses."""
        return len(self.tensors) == 1


@dataclass(frozen=True)
class Boundaries:
    """The legal boundaries, in execution order, and the number of depth units."""

    found: tuple[Boundary, ...]
    """Those where a single tensor crosses."""
    wide: tuple[Boundary, ...]
    """Where several tensors cross; used where single ones do not suffice or cut very unevenly."""
    units: int
    unit: str
    """What a depth unit is: ``residual``, ``layer`` or ``submodule``."""


Value = tuple[int, int]
"""The storage that a tensor lies in, and how often that had been written."""


@dataclass(frozen=True)
class NodeCost:
    """What one node costs."""

    parameters: Mapping[str, int]
    """Elements of each parameter that it uses, by name."""
    flops: int
    """Floating-point operations of the forward pass for one sample."""
    saved: Mapping[int, int]
    """Bytes of each storage that it saves for backward, by an arbitrary storage number."""
    value: Value | None = None
    """What it computes in train mode, if that is a tensor."""
    kept: frozenset[Value] = frozenset()
    """The values that it saves for backward, its own or others'."""


@dataclass(frozen=True)
class Costs:
    """The costs of all nodes, by name. Costs of ranges count shared storage once."""

    nodes: Mapping[str, NodeCost]
    batch_size: int
    """The batch size for which activations are counted."""


@dataclass(frozen=True)
class Segment:
    """One module of a partition: a range of nodes and what it costs."""

    first: str
    last: str
    residuals: int
    blocks: tuple[str, ...]
    """The paths of the modules that perform its residual additions, each once."""
    parameters: int
    flops: int
    activation_bytes: int
    inputs: tuple[str, ...]
    """The nodes whose values enter."""
    outputs: tuple[str, ...]
    """The nodes whose values leave."""

    def cost(self, weight: Weight) -> int:
        """What the segment weighs."""
        match weight:
            case Weight.ACTIVATIONS:
                return self.activation_bytes
            case Weight.PARAMETERS:
                return self.parameters
            case Weight.FLOPS:
                return self.flops


@dataclass(frozen=True)
class PartitionPlan:
    """Where the graph is cut, and how even the modules are."""

    balance: Balance
    weight: Weight
    unit: str
    """What depth is counted in: ``residual``, ``layer`` or ``submodule``."""
    segments: tuple[Segment, ...]
    cuts: tuple[Boundary, ...]
    bottleneck: int
    """The cost of the heaviest module, or its number of depth units."""
    lower_bound: int
    """What no partition into as many modules, whatever its cuts, can go below."""
    imbalance: float
    """The bottleneck over the mean, minus one."""

    @property
    def modules(self) -> int:
        """The number of modules, K."""
        return len(self.segments)


@dataclass(frozen=True)
class HeadSpec:
    """An auxiliary classifier to be built."""

    kind: HeadKind
    layouts: tuple[Layout, ...] = ()
    """Where each hidden tensor that it reads keeps its channels."""
    channels: tuple[int, ...] = ()
    """The channels of each."""
    inputs: tuple[int, ...] = ()
    """Which these are, as positions in the ``outputs`` of the module's segment."""
    dims: int = 0
    """Spatial dimensions of the map that a convolutional head reads; 0 for others."""
    width: int = 0
    """Channels inside a convolutional head; 0 for others."""
    num_classes: int = 0
    """Logits; 0 if there is no auxiliary head."""


@dataclass(frozen=True)
class HeadPlan:
    """One head for each module; the last module has the model's own."""

    heads: tuple[HeadSpec, ...]


@dataclass(frozen=True)
class Tap:
    """One residual block, or equal-dimension layer: the nodes that hold its values."""

    kind: Kind
    residue: str
    """The branch, or x_{m+1} - x_m of a layer."""
    branch: tuple[str, ...]
    """The operands that are added to the skip; none of a layer."""
    skip: str
    """The skip operand; of a layer, x_m."""
    sum: str
    """The addition; of a layer, x_{m+1}."""
    output: str
    """x_{m+1}: the sum, or the activation, if that alone follows it."""


@dataclass(frozen=True)
class Taps:
    """The residual blocks whose residues are outputs of the program, in execution order."""

    found: tuple[Tap, ...]
    added: tuple[str, ...]
    """The nodes that were made for them and that the model's output does not need."""

    @property
    def residues(self) -> tuple[str, ...]:
        """The nodes whose values are residues."""
        return tuple(tap.residue for tap in self.found)


@dataclass(frozen=True)
class Check:
    """One comparison of a program with its model."""

    mode: str
    """``train`` or ``eval``."""
    batch_size: int
    output_error: float
    """The largest absolute difference between outputs."""
    gradient_error: float
    """The largest absolute difference between gradients of parameters and inputs."""
    buffer_error: float
    """The largest absolute difference between buffers after the pass."""
    refused: str | None = None
    """Why the model itself refuses this input, if it does (the program then must too), or
    which guard does, where the model decides on the batch size."""

    @property
    def error(self) -> float:
        """The largest of the three errors."""
        return max(self.output_error, self.gradient_error, self.buffer_error)


@dataclass(frozen=True)
class VerificationReport:
    """All comparisons of one compilation."""

    checks: tuple[Check, ...]

    @property
    def max_error(self) -> float:
        """The largest error of all comparisons."""
        return max((c.error for c in self.checks), default=0.0)
