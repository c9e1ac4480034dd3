"""Where a graph may be cut, and what crosses there."""

from functools import cached_property

from torch import fx

from fxtransport.ir import Boundary, Layers, Origins, Recording, Residuals, Shapes, Taps
from fxtransport.runtime import add_out_of_place
from fxtransport.unit import Unit

SUBMODULE = "submodule"
"""The depth unit of models that have few residuals and few layers."""


def find_depth_units(unit: Unit) -> tuple[str, list[int]]:
    """What a depth unit is in this model, and the position of the last node of each.

    A single residual, or a single layer, would leave nothing to cut between.
    """
    position = {node.name: i for i, node in enumerate(unit.traced().nodes)}
    residuals = unit.fact(Residuals).tapped
    if len(residuals) > 1:
        return "residual", [position[r.node] for r in residuals]
    layers = unit.fact(Layers).found
    if len(layers) > 1:
        return "layer", [position[layer.output] for layer in layers]
    return SUBMODULE, submodule_ends(unit)


def submodule_ends(unit: Unit) -> list[int]:
    """The positions of the submodules that have parameters."""
    return [
        position
        for position, node in enumerate(unit.traced().nodes)
        if node.op == "call_module"
        and any(True for _ in unit.model.get_submodule(str(node.target)).parameters())
    ]


def boundary_at(unit: Unit, position: int) -> Boundary:
    """The boundary after the node at a position, whatever crosses there."""
    _, ends = find_depth_units(unit)
    return CutPoints(unit).boundary(position, sum(end <= position for end in ends))


class CutPoints:
    """The positions of a graph, with what crosses after each."""

    def __init__(self, unit: Unit) -> None:
        self.nodes: list[fx.Node] = list(unit.traced().nodes)
        self._owners = unit.fact(Origins).owners
        self._shapes = unit.fact(Shapes)
        self._position = {node: i for i, node in enumerate(self.nodes)}
        self._at = {node.name: i for i, node in enumerate(self.nodes)}
        self._last_use = [
            max((self._position[user] for user in node.users), default=i)
            for i, node in enumerate(self.nodes)
        ]
        for tap in unit.fact(Taps).found:
            # a block is measured after its sum, by its skip and each of its branches
            for name in (tap.skip, *tap.branch):
                i = self._at[name]
                self._last_use[i] = max(self._last_use[i], self._at[tap.sum])
        self._data = self._data_nodes()
        self._unit = unit

    @property
    def last(self) -> int:
        """The position of the last node that computes something; no cut can follow it."""
        computing = [
            i
            for i, node in enumerate(self.nodes)
            if node.op not in ("placeholder", "get_attr", "output")
        ]
        return max(computing, default=0)

    def is_legal(self, position: int) -> bool:
        """Whether a position computes something that nothing after it overwrites.

        A part must not overwrite the hidden state that it is given: it may be a leaf of
        autograd, or kept by the caller.
        """
        node = self.nodes[position]
        if node.op in ("placeholder", "get_attr", "output") or node not in self._data:
            return False
        spans = [*self._written, *self._blocks]
        return not any(first <= position < last for first, last in spans)

    def boundary(self, position: int, units: int) -> Boundary:
        """The boundary after a position, with the number of depth units before it."""
        crossing = [
            node
            for i, node in enumerate(self.nodes[: position + 1])
            if self._last_use[i] > position and node.op != "get_attr"
        ]
        return Boundary(
            after=self.nodes[position].name,
            crossing=tuple(n.name for n in crossing),
            tensors=tuple(n.name for n in crossing if n in self._data),
            units=units,
            path=self._module_ending_at(position),
        )

    def path(self, node: fx.Node) -> str:
        """The path of the module that a node belongs to."""
        if node.op == "call_module":
            return str(node.target)
        if node.name in self._owners or not node.all_input_nodes:
            return self._owners.get(node.name, "")
        # a node that a pass added belongs to what it is made of
        return self.path(node.all_input_nodes[0])

    def _data_nodes(self) -> set[fx.Node]:
        """The nodes that hold tensors which depend on the input's data."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            holds = node.name in self._shapes.specs or node.name in self._shapes.compound
            if node.op == "placeholder" or (
                holds and any(n in found for n in node.all_input_nodes)
            ):
                found.add(node)
        return found

    @cached_property
    def _written(self) -> list[tuple[int, int]]:
        """The first and last position of each storage that is written after it was made."""
        recording, runs = self._unit.fact(Recording), self._unit.fact(Origins).op_nodes
        spans: list[tuple[int, int]] = []
        made: dict[int, int] = {}
        written: dict[int, int] = {}
        for op, name in zip(recording.ops, runs, strict=True):
            here = self._at[name]
            for storage in {recording.storages[value] for value in op.outputs}:
                if op.writes and self.nodes[here].target is add_out_of_place:
                    # the sum lies in a storage of its own now
                    if storage in written:
                        spans.append((made[storage], written.pop(storage)))
                    made[storage] = here
                elif op.writes and storage in made:
                    written[storage] = here
                made.setdefault(storage, here)
        spans += ((made[storage], last) for storage, last in written.items())
        return [(first, last) for first, last in spans if first < last]

    @cached_property
    def _blocks(self) -> list[tuple[int, int]]:
        """From each sum to the activation that alone follows it, which ends the block."""
        return [(self._at[tap.sum], self._at[tap.output]) for tap in self._unit.fact(Taps).found]

    def _module_ending_at(self, position: int) -> str:
        """The outermost module that ends at a position; the node itself if none does."""
        here = self.path(self.nodes[position])
        after = map(self.nodes.__getitem__, range(position + 1, len(self.nodes)))
        following = next((n for n in after if n.op not in ("get_attr", "output")), None)
        there = "" if following is None else self.path(following)
        names, others = here.split("."), there.split(".")
        for depth in range(1, len(names) + 1):
            if names[:depth] != others[:depth] and here:
                return ".".join(names[:depth])
        return self.nodes[position].name
