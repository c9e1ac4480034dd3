"""Plan an auxiliary classifier for each module but the last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import fx

from fxtransport.analysis.layouts import LayoutFinder
from fxtransport.errors import UsageError
from fxtransport.ir import (
    Boundary,
    HeadKind,
    HeadPlan,
    HeadSpec,
    Layout,
    Origins,
    PartitionPlan,
    Recording,
    Shapes,
)
from fxtransport.passes.base import Pass, setting
from fxtransport.unit import Unit

_MAP_DIMS = (1, 2, 3)
_NO_HEAD = "choose another cut, or leave the heads out (--head none)"


@dataclass(frozen=True)
class Hidden:
    """A tensor at a cut that a head can read: floating-point, a row for each sample."""

    position: int
    """Its position in the hidden state."""
    shape: tuple[int, ...]
    layout: Layout

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return self.shape[1 if self.layout is Layout.CHANNELS_FIRST else -1]

    @property
    def positions(self) -> tuple[int, ...]:
        """The sizes of its other dimensions, without the batch."""
        return self.shape[2:] if self.layout is Layout.CHANNELS_FIRST else self.shape[1:-1]

    @property
    def is_map(self) -> bool:
        """Whether it can be convolved over; B×N×C are tokens, and no map."""
        dims = len(self.positions)
        return dims in _MAP_DIMS and (dims > 1 or self.layout is Layout.CHANNELS_FIRST)


@dataclass(frozen=True)
class PlanHeads(Pass):
    """Plan an auxiliary classifier behind each module but the last, which has the model's.

    ``auto`` is convolutional where one NCHW map crosses, else over tokens (DGL; THESIS
    4.5.1). ``head_width`` bounds the channels inside a convolutional head. ``num_classes`` is
    the model's own number unless given.
    """

    name: ClassVar[str] = "heads"
    requires: ClassVar[tuple[type, ...]] = (PartitionPlan, Shapes, Origins, Recording)
    provides: ClassVar[tuple[type, ...]] = (HeadPlan,)

    head: HeadKind = setting(HeadKind.AUTO, "Auxiliary heads of all modules but the last.")
    num_classes: int | None = setting(
        None, "Of the auxiliary heads; the model's by default.", metavar="N", least=1
    )
    head_width: int = setting(
        256, "The most channels inside a convolutional head.", metavar="N", least=1
    )

    def __post_init__(self) -> None:
        if self.head is HeadKind.MODEL:
            raise UsageError(
                "only the last module has the model's own head; the others' are auto, conv, "
                "token or none"
            )
        if self.head_width < 1:
            raise UsageError(f"a head must be at least 1 channel wide, not {self.head_width}")
        if self.num_classes is not None and self.num_classes < 1:
            raise UsageError(f"there must be at least 1 class, not {self.num_classes}")

    def run(self, unit: Unit) -> Unit:
        """Add the plan.

        Raises:
            UsageError: a head of the kind asked for cannot read what crosses a cut, or the
                number of classes is neither given nor known.
        """
        cuts = unit.fact(PartitionPlan).cuts
        inner: Sequence[HeadSpec] = [HeadSpec(HeadKind.NONE)] * len(cuts)
        if cuts and self.head is not HeadKind.NONE:
            classes = self.num_classes or output_classes(unit)
            finder = LayoutFinder(unit.fact(Recording), unit.fact(Origins))
            inner = [self._planned(cut, hidden_at(unit, cut, finder), classes) for cut in cuts]
        last = HeadSpec(HeadKind.MODEL)
        return unit.with_facts(HeadPlan((*inner, last)))

    def _planned(self, cut: Boundary, hidden: Sequence[Hidden], classes: int) -> HeadSpec:
        if not hidden:
            raise UsageError(
                f"no auxiliary head can read what crosses the cut after {cut.path}: it is no "
                f"floating-point tensor with one row for each sample; {_NO_HEAD}"
            )
        convolved = self._convolved(cut, hidden)
        return HeadSpec(
            kind=HeadKind.CONV if convolved else HeadKind.TOKEN,
            layouts=tuple(h.layout for h in hidden),
            channels=tuple(h.channels for h in hidden),
            inputs=tuple(h.position for h in hidden),
            dims=len(hidden[0].positions) if convolved else 0,
            width=min(hidden[0].channels, self.head_width) if convolved else 0,
            num_classes=classes,
        )

    def _convolved(self, cut: Boundary, hidden: Sequence[Hidden]) -> bool:
        """Whether the head is convolutional."""
        first = hidden[0]
        if self.head is HeadKind.TOKEN:
            return False
        if self.head is HeadKind.AUTO:
            nchw = first.layout is Layout.CHANNELS_FIRST and len(first.positions) == 2
            return len(hidden) == 1 and nchw and min(first.positions) > 1
        if len(hidden) == 1 and first.is_map:
            # batch norm would see a single position per sample, and refuse a batch of one
            return max(first.positions) > 1
        es = "es" if len(hidden) == 1 else ""
        shapes = " and ".join("×".join(map(str, ("B", *h.shape[1:]))) for h in hidden)
        raise UsageError(
            f"a convolutional head reads one map, and {shapes} cross{es} the cut after "
            f"{cut.path}; use head auto or token there"
        )


def hidden_at(unit: Unit, cut: Boundary, finder: LayoutFinder) -> list[Hidden]:
    """The tensors at a cut that a head can read."""
    nodes = {node.name: node for node in unit.traced().nodes}
    shapes = unit.fact(Shapes)
    found = []
    for position, name in enumerate(cut.crossing):
        spec = shapes.specs.get(name)
        if name not in cut.tensors or spec is None or "float" not in spec.dtype:
            continue
        if len(spec.shape) < 2 or spec.shape[0] != shapes.batch_size:
            continue
        layout = finder.layout(nodes[name], spec.shape)
        found.append(Hidden(position, spec.shape, layout))
    return found


def output_classes(unit: Unit) -> int:
    """The number of classes of a model that returns logits, B×classes.

    Raises:
        UsageError: the model returns something else.
    """
    returned = next(n for n in reversed(unit.traced().nodes) if n.op == "output").args[0]
    specs = unit.fact(Shapes).specs
    spec = specs.get(returned.name) if isinstance(returned, fx.Node) else None
    if spec is None or len(spec.shape) != 2:
        what = "×".join(map(str, spec.shape)) if spec else "no single tensor"
        raise UsageError(
            f"auxiliary heads need a number of classes, and {type(unit.model).__name__} "
            f"returns {what}, not logits: give num_classes, or leave the heads out (--head none)"
        )
    return spec.shape[1]
