"""The residual blocks of a graph that can be computed again in the backward pass."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from torch import fx

from fxtransport.analysis.memories import Memories
from fxtransport.analysis.regions import Region, target_of
from fxtransport.ir import Checkpoints, Costs, Origins, Recording, Shapes, Tap, Taps
from fxtransport.runtime import add_out_of_place, assign, set_mode
from fxtransport.unit import Unit

Range = tuple[int, int]
"""The positions of the first node of a range, and of the one after the last."""


def block_regions(unit: Unit) -> tuple[Region, ...]:
    """A region for each residual block, from its input to its output; the innermost of several.

    Blocks are left out that the model checkpoints itself, that set attributes, and whose input
    is overwritten, so that they cannot be computed again.
    """
    nodes = [n for n in unit.traced().nodes if n.op != "output"]
    finder = _Finder(nodes, unit.fact(Shapes), unit.fact(Recording), unit.fact(Origins))
    checkpointed = {name for c in unit.fact(Checkpoints).found for name in c.nodes}
    found: list[tuple[Range, Tap]] = []
    for tap in unit.fact(Taps).found:
        span = finder.span(tap)
        if span is not None and finder.is_repeatable(span):
            found.append((span, tap))
    taken: list[tuple[Range, Tap]] = []
    for (start, end), tap in sorted(found, key=lambda each: each[0][1] - each[0][0]):
        apart = all(end <= other[0] or other[1] <= start for other, _ in taken)
        if apart and checkpointed.isdisjoint(n.name for n in nodes[start:end]):
            taken.append(((start, end), tap))
    return tuple(
        Region(f"{tap.sum}_block", frozenset(n.name for n in nodes[start:end]), None)
        for (start, end), tap in sorted(taken, key=lambda each: each[0])
    )


class Block(NamedTuple):
    """A residual block that can be computed again."""

    end: str
    """Its last node."""
    flops: int
    """Of its forward, for one sample."""


def repeatable_blocks(unit: Unit) -> tuple[Block, ...]:
    """The blocks of :func:`block_regions`, and what it takes to compute each once more."""
    costs = unit.fact(Costs).nodes
    position = {node.name: i for i, node in enumerate(unit.traced().nodes)}
    return tuple(
        Block(
            max(region.nodes, key=position.__getitem__),
            sum(costs[name].flops for name in region.nodes if name in costs),
        )
        for region in block_regions(unit)
    )


class _Finder:
    """Finds where blocks begin and end.

    Args:
        nodes: Of the graph, in order.
        shapes: Which of them compute a tensor.
        recording: The operations that they run.
        origins: Which node runs each.
    """

    def __init__(
        self, nodes: Sequence[fx.Node], shapes: Shapes, recording: Recording, origins: Origins
    ) -> None:
        self._nodes = nodes
        self._position = {n.name: i for i, n in enumerate(nodes)}
        self._recording = recording
        self._origins = origins
        self._memories = Memories(recording, origins)
        targets = {n.name: n.target for n in nodes}
        for i, op in enumerate(recording.ops):
            if op.writes and targets.get(origins.op_nodes[i]) is add_out_of_place:
                self._memories.out_of_place.add(i)
        self._before: list[int] = []
        """For each node, itself and all that it is computed from, as bits."""
        for i, node in enumerate(nodes):
            bits = 1 << i
            for given in node.all_input_nodes:
                bits |= self._before[self._position[given.name]]
            self._before.append(bits)
        tensors = (n.op != "get_attr" and n.name in shapes.specs for n in nodes)
        self._tensors = sum(1 << i for i, is_tensor in enumerate(tensors) if is_tensor)

    def span(self, tap: Tap) -> Range | None:
        """The nodes after the input of a block, the last that its operands share."""
        total = self._nodes[self._position[tap.sum]]
        skip = self._position[tap.skip]
        others = [self._position[name] for name in tap.branch]
        others = others or [self._position[n.name] for n in total.all_input_nodes]
        shared = self._tensors & self._before[skip]
        for other in others:
            if other != skip:
                shared &= self._before[other]
        if not shared:
            return None
        return shared.bit_length(), self._position[tap.output] + 1

    def is_repeatable(self, span: Range) -> bool:
        """Whether nodes can be run again, on what they were given."""
        inside = {n.name for n in self._nodes[span[0] : span[1]]}
        if any(target_of(n) in (assign, set_mode) for n in self._nodes[span[0] : span[1]]):
            return False
        if not self._writes:
            return True
        given = {i.name for n in self._nodes[span[0] : span[1]] for i in n.all_input_nodes}
        runs = self._origins.op_nodes
        last = max((i for i, name in enumerate(runs) if name in inside), default=-1)
        for i, memory in self._writes:
            made = self._recording.producer[memory]
            if runs[i] in inside and not (made is not None and runs[made] in inside):
                return False
            if i > last and made is not None and runs[made] in given - inside:
                return False
        return True

    @cached_property
    def _writes(self) -> list[tuple[int, int]]:
        """The operations in place on what depends on the input, and the first value written."""
        found = (
            (i, self._memories.of(op.inputs[0]))
            for i, op in enumerate(self._recording.ops)
            if op.writes and i not in self._memories.out_of_place
        )
        return [(i, memory) for i, memory in found if self._recording.depends[memory]]
