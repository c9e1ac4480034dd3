"""Where a graph may be cut, what its nodes cost, and where it is cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxtransport.ir.choices import Balance


@dataclass(frozen=True)
class Boundary:
    """A place where the graph may be cut."""

    after: str
    """The last node before the cut."""
    crossing: tuple[str, ...]
    """The nodes whose values the part after the cut needs, in execution order."""
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
    """The legal boundaries, in execution order, and the number of depth units.

    Some lie before the first unit or after the last: a part need not hold one.
    """

    single: tuple[Boundary, ...]
    """Those where a single tensor crosses."""
    multiple: tuple[Boundary, ...]
    """Those where several tensors cross. They are used where the single ones do not suffice or
    cut very unevenly."""
    units: int
    unit: str
    """What a depth unit is: ``residual``, ``layer`` or ``submodule``."""
    cuts: tuple[Boundary, ...] = ()
    """The boundaries that the user chose, legal or not; if there are any, these are the cuts."""

    @property
    def legal(self) -> tuple[Boundary, ...]:
        """All boundaries that may be chosen automatically."""
        return (*self.single, *self.multiple)


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
    """The costs of the model's own nodes, by name. Ranges of nodes count shared storage once.

    Nodes that passes added are missing, and cost nothing.
    """

    nodes: Mapping[str, NodeCost]
    batch_size: int
    """The batch size for which activations are counted."""
    storages: Mapping[int, int] = field(default_factory=dict)
    """Bytes of each storage that the value of a node lies in, by storage number."""


@dataclass(frozen=True)
class Segment:
    """One part of a partition: a range of nodes, and what they cost without a head."""

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
    submodules: int = 0
    """The number of submodules with parameters that are nodes in it."""
    peak_bytes: int | None = None
    """What training holds while this part trains, at its peak; None where it was not counted."""


@dataclass(frozen=True)
class PartitionPlan:
    """Where the graph is cut, and how even the parts are."""

    balance: Balance
    unit: str
    """What depth is counted in: ``residual``, ``layer`` or ``submodule``."""
    segments: tuple[Segment, ...]
    cuts: tuple[Boundary, ...]
    bottleneck: int
    """The cost of the heaviest part with its head, or its number of depth units. Of memory, the
    peak of training."""
    lower_bound: int
    """What no partition into as many parts, whatever its cuts, can go below."""
    imbalance: float
    """The bottleneck over the mean, minus one."""

    @property
    def modules(self) -> int:
        """The number of parts, K."""
        return len(self.segments)
