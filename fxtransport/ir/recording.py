"""What one forward pass did, operation by operation, and what was found in it.

Values and operations are referred to by number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fxtransport.ir.choices import TAPPED_KINDS, Kind

ALIAS = "alias_update"
"""The operation that stands for reading a tensor whose storage was written elsewhere."""


@dataclass(frozen=True)
class Call:
    """One run of a module's forward."""

    path: str
    parent: int | None
    first: int
    """The first operation that it ran; its operations are contiguous."""
    inputs: frozenset[int]
    """The values of the tensors that it was given."""


@dataclass(frozen=True)
class Op:
    """One tensor operation."""

    name: str
    """The ATen operator without its overload: ``add_``."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: int
    constants: tuple[Any, ...] = ()
    """Its arguments that are numbers, or lists of them, in order."""
    writes: bool = False
    """Whether it changes a tensor that was there before."""
    keywords: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments by keyword that are numbers, such as ``alpha``."""

    @property
    def base_name(self) -> str:
        """The operator's name, the same in place and out of place."""
        return self.name.removesuffix("_")


@dataclass(frozen=True)
class Recording:
    """The operations and module calls of one forward pass."""

    ops: tuple[Op, ...]
    calls: tuple[Call, ...]
    producer: tuple[int | None, ...]
    """For each value, the operation that computes it; None for inputs and parameters."""
    shapes: tuple[tuple[int, ...], ...]
    """For each value, its shape."""
    storages: tuple[int, ...]
    """For each value, the number of the storage that it lies in."""
    depends: tuple[bool, ...]
    """For each value, whether it depends on the model's input."""
    uses: tuple[tuple[int, ...], ...]
    """For each value, the operations that read it, in order."""
    outputs: tuple[int, ...]
    """The values of the tensors that the model returns."""
    mutators: frozenset[str]
    """The paths of modules that change a list or dict that they are given."""
    differentiates: bool = False
    """Whether modules compute gradients in their forward."""

    def path(self, op: int) -> str:
        """The path of the innermost module that ran the operation."""
        return self.calls[self.ops[op].call].path


@dataclass(frozen=True)
class Term:
    """What an operand adds to a sum: the ``operand``-th tensor that the operation ``op`` reads."""

    op: int
    operand: int
    value: int
    factor: float | None = 1.0
    """The number that it is multiplied by: -1 for what is subtracted. None: what is added is
    no multiple of it, but computed inside the operation."""
    keyword: str | None = None
    """The argument of the operation that it is multiplied by, too, where the code gives one."""


@dataclass(frozen=True)
class Addition:
    """A residual addition in a recording."""

    path: str
    kind: Kind
    op: int
    skip: Term
    branch: tuple[Term, ...]
    skip_root: int
    """The value that the skip is a view of, or that its shortcut starts from."""
    shape: tuple[int, ...]

    @property
    def tapped(self) -> bool:
        """Whether its residue will be an output of the program."""
        return self.kind in TAPPED_KINDS


@dataclass(frozen=True)
class RecordedAdditions:
    """The residual additions of a recording, in execution order."""

    found: tuple[Addition, ...]


@dataclass(frozen=True)
class RecordedLayer:
    """A convolution-norm-activation unit that keeps its input's shape."""

    path: str
    """The path of the module that runs the convolution."""
    first: int
    """The operation that reads x_m."""
    last: int
    """The operation that computes x_{m+1}."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RecordedLayers:
    """The equal-dimension layers of a recording; none where there are residuals."""

    found: tuple[RecordedLayer, ...]
    containers: tuple[str, ...]
    """Modules to open so that the layers, or at least places to cut, are nodes."""
