"""Make the residues nodes of the graph, out of the way of operations in place."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import fx

from fxtransport.errors import UsageError
from fxtransport.ir import TAPPED_KINDS, Kind, Layer, Layers, Residual, Residuals, Shapes, Taps
from fxtransport.passes.additions import Addition, RecordedAdditions
from fxtransport.passes.base import Pass, Unit
from fxtransport.passes.dataflow import VIEWS
from fxtransport.passes.recording import ALIAS, Recording
from fxtransport.passes.trace import Origins


@dataclass(frozen=True)
class TapResidues(Pass):
    """Make each residue a node: the branch of an addition, or y - x of a layer.

    ``out += shortcut`` overwrites the branch; it becomes an addition out of place, which
    computes the same numbers. A branch that is overwritten otherwise is copied first.
    Of additions, those of the given ``kinds`` are tapped (THESIS 3.5.1).
    """

    name: ClassVar[str] = "taps"
    requires: ClassVar[tuple[type, ...]] = (
        Recording,
        RecordedAdditions,
        Origins,
        Shapes,
        Residuals,
        Layers,
    )
    provides: ClassVar[tuple[type, ...]] = (Taps,)
    rewrites: ClassVar[bool] = True

    kinds: tuple[Kind, ...] = TAPPED_KINDS

    def __post_init__(self) -> None:
        if Kind.INNER in self.kinds:
            raise UsageError("additions inside a branch (inner) have no residue to tap")

    def run(self, unit: Unit) -> Unit:
        """Add the residues to the graph, and the fact which nodes they are."""
        graph = fx.Graph()
        graph.output(graph.graph_copy(unit.traced(), {}))
        nodes = {node.name: node for node in graph.nodes}
        recording = unit.fact(Recording)
        tapper = _Tapper(graph, nodes, recording, unit.fact(Origins))
        residues = [tapper.tap_addition(r, a) for r, a in self._tapped(unit)]
        residues += [tapper.tap_layer(layer) for layer in unit.fact(Layers).found]
        taps = Taps(tuple(r.name for r in residues), tuple(a.name for a in tapper.added))
        return unit.with_graph(graph, taps, _with_shapes(unit.fact(Shapes), tapper.added))

    def _tapped(self, unit: Unit) -> Iterator[tuple[Residual, Addition]]:
        pairs = zip(unit.fact(Residuals).found, unit.fact(RecordedAdditions).found, strict=True)
        return ((r, a) for r, a in pairs if r.kind in self.kinds)


def _with_shapes(shapes: Shapes, added: list[fx.Node]) -> Shapes:
    """The shapes with those of new nodes, which have the shape of what they are made of."""
    specs = dict(shapes.specs)
    for node in added:
        specs[node.name] = specs[node.all_input_nodes[0].name]
    return replace(shapes, specs=specs)


def add_out_of_place(branch: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``branch += other`` without overwriting the branch; the dtype stays the branch's."""
    total = branch + other
    return total if total.dtype == branch.dtype else total.to(branch.dtype)


class _Tapper:
    """Adds residues to a graph."""

    def __init__(
        self,
        graph: fx.Graph,
        nodes: dict[str, fx.Node],
        recording: Recording,
        origins: Origins,
    ) -> None:
        self.graph = graph
        self.nodes = nodes
        self.recording = recording
        self.origins = origins
        self.added: list[fx.Node] = []

    def tap_addition(self, residual: Residual, addition: Addition) -> fx.Node:
        """The node of an addition's branch, or of the sum of its branches."""
        sums = {addition.op, *(t.op for t in (addition.skip, *addition.branch))}
        still_in_place = [
            op for op in sorted(sums) if self.recording.ops[op].writes and not self._replaced(op)
        ]
        branch = [
            self._copied(name)
            if still_in_place or _overwritten(self.recording, term.value, addition)
            else self.nodes[name]
            for name, term in zip(residual.branch, addition.branch, strict=True)
        ]
        residue = branch[0]
        for term in branch[1:]:
            with self.graph.inserting_before(self.nodes[residual.node]):
                residue = self._add(operator.add, (residue, term))
        return residue

    def tap_layer(self, layer: Layer) -> fx.Node:
        """The displacement x_{m+1} - x_m of a layer."""
        output = self.nodes[layer.output]
        with self.graph.inserting_after(output):
            return self._add(operator.sub, (output, self.nodes[layer.input]))

    def _add(self, function: Callable[..., Any], args: tuple[fx.Node, ...]) -> fx.Node:
        self.added.append(self.graph.call_function(function, args))
        return self.added[-1]

    def _copied(self, name: str) -> fx.Node:
        """A copy of a node's value, taken before anything can overwrite it."""
        with self.graph.inserting_after(self.nodes[name]):
            return self._add(torch.clone, (self.nodes[name],))

    def _replaced(self, op: int) -> bool:
        """Make an addition in place one out of place.

        That is not done if something later reads what it wrote under another name.
        """
        node = self.nodes[self.origins.op_nodes[op]]
        is_addition = node.target in (operator.iadd, "add_")
        if not is_addition or len(node.args) != 2 or node.kwargs:
            return False
        target = node.args[0]
        assert isinstance(target, fx.Node)
        order = {n: i for i, n in enumerate(self.graph.nodes)}
        if any(order[user] > order[node] for user in target.users):
            return False
        storages = self.recording.storages
        storage = storages[self.recording.ops[op].outputs[0]]
        later = self.recording.ops[op + 1 :]
        if any(o.name == ALIAS and storages[o.inputs[0]] == storage for o in later):
            return False
        node.op, node.target = "call_function", add_out_of_place
        return True


def _overwritten(recording: Recording, value: int, addition: Addition) -> bool:
    """Whether something writes a branch after the addition, other than through its sum."""
    total = recording.ops[addition.op].outputs[0]
    for op in recording.ops[addition.op + 1 :]:
        if not op.writes or recording.storages[op.outputs[0]] != recording.storages[value]:
            continue
        if not _is_written_through(recording, op.inputs[0], total):
            return True
    return False


def _is_written_through(recording: Recording, value: int, total: int) -> bool:
    """Whether a value is the sum itself, a view of it, or it after other writes."""
    while value != total:
        producer = recording.producer[value]
        if producer is None:
            return False
        op = recording.ops[producer]
        if not op.writes and op.name not in VIEWS:
            return False
        value = op.inputs[0]
    return True


def _tap_layer(graph: fx.Graph, nodes: dict[str, fx.Node], layer: Layer) -> fx.Node:
    """The displacement x_{m+1} - x_m of a layer."""
    output = nodes[layer.output]
    with graph.inserting_after(output):
        return graph.call_function(operator.sub, (output, nodes[layer.input]))
