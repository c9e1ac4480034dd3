"""Where a graph may be cut, what its nodes cost, and where it is cut."""

from collections.abc import Mapping
from dataclasses import dataclass

from fxtransport.ir.choices import Balance, HeadKind, Layout


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


@dataclass(frozen=True)
class PartitionPlan:
    """Where the graph is cut, and how even the modules are."""

    balance: Balance
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
