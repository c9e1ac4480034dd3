"""Find where the graph may be cut, and what crosses there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fxtransport.ir import (
    Boundaries,
    Boundary,
    Checkpoints,
    Layers,
    Origins,
    Recording,
    Residuals,
    Shapes,
    Taps,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from fxtransport.unit import Unit


@dataclass(frozen=True)
class FindBoundaries(Pass):
    """Find the boundaries around depth units, those where a single tensor crosses first.

    A depth unit is a residual addition; an equal-dimension layer where there are none; a
    submodule with parameters where there is neither, or one alone. Between two units, before the
    first and after the last, every boundary where one tensor crosses is legal. Where there is none
    between two, those where the fewest cross are kept apart, for models that cannot be cut
    otherwise. What a residue is computed
    from crosses too, so no cut falls inside an equal-dimension layer. With ``cuts``, the
    boundaries after these modules or nodes are found too, legal or not.
    """

    name: ClassVar[str] = "boundaries"
    requires: ClassVar[tuple[type, ...]] = (
        Recording,
        Residuals,
        Layers,
        Origins,
        Shapes,
        Taps,
        Checkpoints,
    )
    provides: ClassVar[tuple[type, ...]] = (Boundaries,)

    cuts: tuple[str, ...] = setting(
        (),
        "A module or node to cut after; several may be given.",
        flag="--cut",
        metavar="PATH",
    )

    within_blocks: bool = True
    """Whether there may be cuts within residual blocks that can be computed again."""

    def run(self, unit: Unit) -> Unit:
        """Add the boundaries.

        Raises:
            PartitionError: a cut by hand is not possible.
        """
        from fxtransport.analysis.cut_points import CutPoints, find_depth_units
        from fxtransport.analysis.hand_cuts import place_cuts

        kind, ends = find_depth_units(unit)
        points = CutPoints(unit)
        excluded = set[int]() if self.within_blocks else _inside_blocks(unit)
        between: dict[int, list[Boundary]] = {}
        for position in range(points.last):
            if position not in excluded and points.is_legal(position):
                before = sum(end <= position for end in ends)
                between.setdefault(before, []).append(points.boundary(position, before))
        single: list[Boundary] = []
        multiple: list[Boundary] = []
        for before, found in between.items():
            fewest = min(len(b.tensors) for b in found)
            if before in (0, len(ends)) and fewest > 1:
                continue
            best = [b for b in found if len(b.tensors) == fewest]
            (single if fewest == 1 else multiple).extend(best)
        cuts = place_cuts(unit, self.cuts)
        return unit.with_facts(Boundaries(tuple(single), tuple(multiple), len(ends), kind, cuts))


def _inside_blocks(unit: Unit) -> set[int]:
    """The positions after which a cut would divide a residual block that can be computed again."""
    from fxtransport.analysis.blocks import block_regions

    position = {node.name: i for i, node in enumerate(unit.traced().nodes)}
    found: set[int] = set()
    for region in block_regions(unit):
        places = [position[name] for name in region.nodes]
        found.update(range(min(places), max(places)))
    return found
