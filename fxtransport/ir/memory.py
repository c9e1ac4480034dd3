"""What a training step holds in memory, and when."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HeldStorage:
    """A storage of one training step of the whole. Times count operators."""

    size: int
    """Bytes."""
    born: int
    freed: int
    """The last operator while which it is held."""
    stretch: int
    """The stretch of the graph that was running when it was made."""
    backward: bool
    """Whether it was made in the backward pass."""
    gradient: bool = False
    """Whether it is the gradient of a parameter."""
    used: tuple[int, ...] = ()
    """The operators of the backward pass that read it, if it was made there."""


@dataclass(frozen=True)
class Crossing:
    """A tensor that crosses a point between two stretches."""

    storage: int
    """Its number among the storages; -1 if it was there before."""
    size: int
    """Bytes."""
    savers: tuple[int, ...]
    """The stretches that save it for backward, in order."""


@dataclass(frozen=True)
class HeadMemory:
    """What an auxiliary head holds, in bytes."""

    parameters: int = 0
    """Its parameters and buffers."""
    state: int = 0
    """The optimizer's state for them."""
    gradients: int = 0
    run: int = 0
    """What its forward and backward hold at their peak, beside what it reads."""
    largest: int = 0
    """Its largest parameter."""


@dataclass(frozen=True)
class OptimizerMemory:
    """What an optimizer holds."""

    state: Mapping[str, int]
    """Bytes of state for each parameter, by its name."""
    temporaries: float
    """Bytes that a step takes for each byte of the largest parameter of a part, or of all its
    parameters."""
    of_all: bool
    """Whether a step takes them for all parameters of a part at once."""


@dataclass(frozen=True)
class TrainingMemory:
    """One training step of the whole, from which those of all ranges of it follow.

    The graph is cut into stretches by its legal boundaries; the points are their ends.
    """

    ends: tuple[str, ...]
    """The nodes after which the points between stretches lie, in execution order."""
    batch_size: int
    model: int
    """Bytes of the model's parameters and buffers."""
    batch: int
    """Bytes of a batch and its targets."""
    held: tuple[HeldStorage, ...]
    inner: Mapping[int, int]
    """Bytes that an operator holds only while it runs, by its time."""
    inner_alone: Mapping[int, int]
    """The same of operators whose gradient of the input is left out, where that differs."""
    forwards: tuple[tuple[int, int], ...]
    """The first and last operator of each stretch's forward."""
    backwards: tuple[tuple[int, int], ...]
    """The first and last operator of each stretch's backward."""
    crossing: tuple[tuple[Crossing, ...], ...]
    """What crosses at each point, the start and the end included."""
    parameters: tuple[Mapping[str, int], ...]
    """The bytes of each parameter that a stretch trains, by name."""
    heads: tuple[tuple[HeadMemory, ...], ...]
    """For each point between stretches, the heads of the parts that end there, in the order of
    the points that they begin at."""
    optimizer: OptimizerMemory

    @property
    def state(self) -> int:
        """Bytes of the optimizers' state for all parameters of the model."""
        return sum(self.optimizer.state.values())
