"""Plan the auxiliary classifier that each boundary would have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from fxtransport.errors import UsageError
from fxtransport.ir import (
    Boundaries,
    Boundary,
    Costs,
    HeadKind,
    Heads,
    HeadSpec,
    Layout,
    Origins,
    PlannedHead,
    Recording,
    Shapes,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from fxtransport.analysis.hidden import Hidden
    from fxtransport.unit import Unit

_NO_HEAD = 'choose another cut, or leave the heads out (head="none")'
_SIZES = ((2, 8), (2, 16), (2, 32), (4, 32), (4, 64))
"""Positions per spatial dimension and channels of a small convolutional head, from small to
large."""
_MEMORY = 2
"""The share of its part's bytes that a head may save, relative to its share of the FLOPs."""
_WIDEST_DGL = 256
"""The most channels inside DGL's head, where ``head_width`` does not say."""
_KINDS = {
    HeadKind.AUTO: (True, HeadKind.CONV),
    HeadKind.CONV: (False, HeadKind.CONV),
    HeadKind.DGL: (True, HeadKind.DGL),
    HeadKind.DGL_CONV: (False, HeadKind.DGL),
    HeadKind.TOKEN: (True, HeadKind.TOKEN),
}
"""Whether what is no NCHW map gets a token head, and which head a map gets."""


@dataclass(frozen=True)
class PlanHeads(Pass):
    """Plan the auxiliary classifier of each boundary, and count what it costs.

    A part ends in the head of the boundary after it; the last part has the model's own head.
    It has the dtype of what it reads. ``auto`` is convolutional where one NCHW map crosses,
    else over tokens. A convolutional head has several sizes. A part has the largest whose
    FLOPs are within ``head_budget`` percent of the part's own, and whose saved bytes are
    within twice as many, or else the smallest. ``dgl`` has the published head (DGL; THESIS
    4.5.1), of one size. ``head_width`` bounds the channels inside a convolutional head.
    ``num_classes`` is the model's own number unless given.
    """

    name: ClassVar[str] = "heads"
    requires: ClassVar[tuple[type, ...]] = (Boundaries, Shapes, Origins, Recording, Costs)
    provides: ClassVar[tuple[type, ...]] = (Heads,)

    head: HeadKind = setting(
        HeadKind.AUTO,
        "The auxiliary heads of all parts but the last.",
        excluded=(HeadKind.MODEL,),
    )
    num_classes: int | None = setting(
        None,
        "The classes of the auxiliary heads; the model's own by default.",
        metavar="N",
        least=1,
    )
    head_width: int | None = setting(
        None,
        "The most channels inside a convolutional head; 64, or 256 in DGL's, by default.",
        metavar="N",
        least=1,
    )
    head_budget: float = setting(
        2.0,
        "The most FLOPs of a convolutional head, in percent of its part's; of memory, twice that.",
        metavar="PERCENT",
        least=0,
    )

    optional: bool = False
    """Whether there are no heads where the number of classes is not known, and no error."""

    @classmethod
    def as_requirement(cls) -> Self:
        """Optional heads: a partition that is only looked at needs none."""
        return cls(optional=True)

    def __post_init__(self) -> None:
        if self.head is HeadKind.MODEL:
            raise UsageError(
                "only the last part has the model's own head; the others' are "
                f"{', '.join(_KINDS)} or {HeadKind.NONE}"
            )
        if not (math.isfinite(self.head_budget) and self.head_budget >= 0):
            raise UsageError(
                f"head_budget is a number of percent, 0 or more, not {self.head_budget}"
            )
        if self.head_width is not None and self.head_width < 1:
            raise UsageError(f"head_width must be at least 1 channel, not {self.head_width}")
        if self.num_classes is not None and self.num_classes < 1:
            raise UsageError(f"num_classes must be at least 1 class, not {self.num_classes}")

    def run(self, unit: Unit) -> Unit:
        """Add the heads of all boundaries."""
        planned: dict[str, PlannedHead] = {}
        refused: dict[str, str] = {}
        for boundary, head in self._heads(unit):
            if isinstance(head, PlannedHead):
                planned[boundary.after] = head
            else:
                refused[boundary.after] = str(head)
        return unit.with_facts(Heads(planned, refused))

    def _heads(self, unit: Unit) -> Iterator[tuple[Boundary, PlannedHead | UsageError]]:
        """For each boundary its head, or why there can be none."""
        from fxtransport.analysis.hidden import count_classes, hidden_at
        from fxtransport.analysis.layouts import LayoutFinder

        boundaries = unit.fact(Boundaries)
        every = (*boundaries.legal, *boundaries.cuts)
        nothing = PlannedHead(HeadSpec(HeadKind.NONE))
        if self.head is HeadKind.NONE:
            yield from ((b, nothing) for b in every)
            return
        try:
            classes = self.num_classes or count_classes(unit)
        except UsageError as error:
            yield from ((b, nothing if self.optional else error) for b in every)
            return
        finder = LayoutFinder(unit.traced(), unit.fact(Recording), unit.fact(Origins))
        for boundary in every:
            hidden = self._worth_reading(unit, hidden_at(unit, boundary, finder))
            try:
                yield boundary, self._sized(unit, self._plan(boundary, hidden, classes), hidden)
            except UsageError as error:
                yield boundary, error

    def _worth_reading(self, unit: Unit, hidden: Sequence[Hidden]) -> Sequence[Hidden]:
        """What a head reads: no input of the model, which tells nothing of the parts before."""
        if self.head not in (HeadKind.AUTO, HeadKind.CONV):
            return hidden
        inputs = {n.name for n in unit.traced().nodes if n.op == "placeholder"}
        return [h for h in hidden if h.node not in inputs] or hidden

    def _plan(self, cut: Boundary, hidden: Sequence[Hidden], classes: int) -> HeadSpec:
        if not hidden:
            raise UsageError(
                f"no auxiliary head can read what crosses the cut after {cut.path}: it is not a "
                f"floating-point tensor with one row for each sample; {_NO_HEAD}"
            )
        is_conv = self._is_convolutional(cut, hidden)
        kind = _KINDS[self.head][1] if is_conv else HeadKind.TOKEN
        return HeadSpec(
            kind=kind,
            layouts=tuple(h.layout for h in hidden),
            channels=tuple(h.channels for h in hidden),
            inputs=tuple(h.position for h in hidden),
            dims=len(hidden[0].positions) if is_conv else 0,
            width=min(hidden[0].channels, self.head_width or _WIDEST_DGL) if is_conv else 0,
            num_classes=classes,
            dtype=hidden[0].dtype,
        )

    def _is_convolutional(self, cut: Boundary, hidden: Sequence[Hidden]) -> bool:
        first = hidden[0]
        if self.head is HeadKind.TOKEN:
            return False
        if _KINDS[self.head][0]:
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

    def _sized(self, unit: Unit, spec: HeadSpec, hidden: Sequence[Hidden]) -> PlannedHead:
        """A head with its costs; of a small convolutional head every size."""
        if spec.kind is not HeadKind.CONV:
            return count_costs(unit, spec, hidden)
        sizes = [
            replace(spec, pooled=pooled, width=min(width, self.head_width or width))
            for pooled, width in _SIZES
            if pooled <= max(_SIZES[0][0], *hidden[0].positions)
        ]
        smallest, *larger = (count_costs(unit, each, hidden) for each in dict.fromkeys(sizes))
        return replace(smallest, larger=tuple(map(self._within_budget, larger)))

    def _within_budget(self, head: PlannedHead) -> PlannedHead:
        """A head that knows which parts it is not too large for."""
        if not self.head_budget:
            return replace(head, least_flops=math.inf)
        share = self.head_budget / 100
        saved = head.cost.activation_bytes + sum(head.hidden.values())
        return replace(
            head,
            least_flops=head.cost.flops / share,
            least_activation_bytes=saved / (_MEMORY * share),
        )


def count_costs(unit: Unit, spec: HeadSpec, hidden: Sequence[Hidden]) -> PlannedHead:
    """A head with what it costs, and which hidden tensors it saves for backward."""
    from fxtransport.analysis.counting import count_head, device_to_count_for
    from fxtransport.analysis.small_heads import small_head_cost

    shapes, batch_size = tuple(h.shape[1:] for h in hidden), unit.fact(Costs).batch_size
    if spec.kind is HeadKind.CONV:
        cost, is_saved = small_head_cost(spec, shapes[0], batch_size)
        saves: tuple[bool, ...] = (is_saved,)
    else:
        device = device_to_count_for(unit.model)
        cost, saves = count_head(spec, shapes, batch_size, device)
    saved = [h.node for h, is_saved in zip(hidden, saves, strict=True) if is_saved]
    return PlannedHead(spec, cost, dict(_storage(unit, node) for node in saved))


def _storage(unit: Unit, node: str) -> tuple[int, int]:
    """The number and the bytes of the storage that a node's value lies in."""
    costs, shapes = unit.fact(Costs), unit.fact(Shapes)
    value = costs.nodes[node].value if node in costs.nodes else None
    if value is not None and value[0] in costs.storages:
        return value[0], costs.storages[value[0]]
    # a node that a pass added has a storage of its own; its number must be no other's
    order = [n.name for n in unit.traced().nodes].index(node)
    return -1 - order, shapes.specs[node].bytes * costs.batch_size // shapes.batch_size
