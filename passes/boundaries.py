"""Find the places where the graph may be cut, and what crosses there."""

from dataclasses import dataclass
from typing import ClassVar

from fxtransport.analysis.places import Places, depth_units
from fxtransport.ir import Boundaries, Boundary, Layers, Origins, Recording, Residuals, Shapes, Taps
from fxtransport.passes.base import Pass
from fxtransport.unit import Unit


@dataclass(frozen=True)
class FindBoundaries(Pass):
    """Find the boundaries between depth units, those where a single tensor crosses first.

    A depth unit is a residual addition; an equal-dimension layer where there are none; a
    submodule with parameters where there is neither, or one alone. Between two units, every
    place where one tensor crosses is legal. Where there is none, the places where the fewest
    cross are kept apart, for models that cannot be cut otherwise. What a residue is computed
    from crosses too, so no cut falls inside an equal-dimension layer.
    """

    name: ClassVar[str] = "boundaries"
    requires: ClassVar[tuple[type, ...]] = (
        Recording,
        Residuals,
        Layers,
        Origins,
        Shapes,
        Taps,
    )
    provides: ClassVar[tuple[type, ...]] = (Boundaries,)

    def run(self, unit: Unit) -> Unit:
        """Add the boundaries."""
        kind, ends = depth_units(unit)
        places = Places(unit)
        slots: dict[int, list[Boundary]] = {}
        for position in range(len(places.nodes)):
            before = sum(end <= position for end in ends)
            if 0 < before < len(ends) and places.is_place(position):
                slots.setdefault(before, []).append(places.boundary(position, before))
        single: list[Boundary] = []
        wide: list[Boundary] = []
        for found in slots.values():
            fewest = min(len(b.tensors) for b in found)
            chosen = [b for b in found if len(b.tensors) == fewest]
            (single if fewest == 1 else wide).extend(chosen)
        return unit.with_facts(Boundaries(tuple(single), tuple(wide), len(ends), kind))
