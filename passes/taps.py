"""Make the residues nodes of the graph, out of the way of operations in place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fxtransport.analysis.dataflow import ACTIVATIONS
from fxtransport.analysis.memories import Memories
from fxtransport.errors import UsageError
from fxtransport.ir import (
    TAPPED_KINDS,
    Activation,
    Activations,
    Addition,
    BlockInput,
    Checkpoints,
    Constructs,
    Costs,
    Kind,
    Layer,
    Layers,
    Origins,
    RecordedAdditions,
    RecordedLayers,
    Recording,
    Residual,
    Residuals,
    Shapes,
    Tap,
    Taps,
    Term,
    WatchedAttributes,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from torch import fx

    from fxtransport.analysis.layouts import LayoutFinder
    from fxtransport.unit import Unit


@dataclass(frozen=True)
class TapResidues(Pass):
    """Make each residue a node: the branch of an addition, or y - x of a layer.

    A branch that is subtracted or scaled has its sign and scale in the residue; one that is
    computed inside the operation that adds it, as by ``torch.lerp``, is y - x, too.
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
        Activations,
    )
    provides: ClassVar[tuple[type, ...]] = (Taps, Shapes)
    preserves: ClassVar[tuple[type, ...]] = (
        Recording,
        RecordedAdditions,
        RecordedLayers,
        Origins,
        Residuals,
        Layers,
        Activations,
        Constructs,
        WatchedAttributes,
        Checkpoints,
        Costs,  # of the model's own nodes: those that are added here cost nothing
    )
    rewrites: ClassVar[bool] = True

    kinds: tuple[Kind, ...] = setting(
        TAPPED_KINDS,
        "The kinds of residual additions whose residues are tapped.",
        flag="--kind",
        excluded=(Kind.INNER,),
    )
    projection_inputs: bool = setting(
        False,
        "Hand on the input of each projection block with its residue, for costs between spaces of "
        "different width.",
    )

    def __post_init__(self) -> None:
        if Kind.INNER in self.kinds:
            raise UsageError("additions inside a branch (inner) have no residue to tap")

    def run(self, unit: Unit) -> Unit:
        """Add the residues to the graph, and the fact which nodes they are.

        Raises:
            TraceError: the input of a projection block is asked for, and no node holds it.
        """
        from torch import fx

        graph = fx.Graph()
        graph.output(graph.graph_copy(unit.traced(), {}))
        tapper = _Tapper(graph, unit.fact(Recording), unit.fact(Origins))
        tapped = list(self._tapped(unit))
        for _, addition in tapped:
            tapper.add_out_of_place(addition)
        found = [tapper.tap_addition(r, a) for r, a in tapped]
        if self.projection_inputs:
            found = self._with_inputs(unit, tapper, found)
        found += [tapper.tap_layer(layer) for layer in unit.fact(Layers).found]
        activations = tuple(map(tapper.tap_activation, unit.fact(Activations).found))
        taps = Taps(tuple(found), tuple(a.name for a in tapper.added), activations)
        return unit.with_graph(graph, taps, _with_shapes(unit.fact(Shapes), tapper.added))

    def _with_inputs(self, unit: Unit, tapper: _Tapper, taps: list[Tap]) -> list[Tap]:
        """The taps of additions, those of projections with what the block starts from."""
        from fxtransport.analysis.layouts import LayoutFinder

        layouts = LayoutFinder(unit.traced(), unit.fact(Recording), unit.fact(Origins))
        return [
            replace(tap, input=tapper.tap_input(residual, addition, layouts))
            if tap.kind is Kind.PROJECTION
            else tap
            for tap, (residual, addition) in zip(taps, self._tapped(unit), strict=True)
        ]

    def _tapped(self, unit: Unit) -> Iterator[tuple[Residual, Addition]]:
        pairs = zip(unit.fact(Residuals).found, unit.fact(RecordedAdditions).found, strict=True)
        return ((r, a) for r, a in pairs if r.kind in self.kinds)


def _with_shapes(shapes: Shapes, added: list[fx.Node]) -> Shapes:
    """The shapes with those of new nodes, which have the shape of what they are made of."""
    specs = dict(shapes.specs)
    for node in added:
        specs[node.name] = specs[node.all_input_nodes[0].name]
    return replace(shapes, specs=specs)


class _Tapper:
    """Adds residues to a graph."""

    def __init__(self, graph: fx.Graph, recording: Recording, origins: Origins) -> None:
        self.graph = graph
        self.nodes: dict[str, fx.Node] = {node.name: node for node in graph.nodes}
        self.recording = recording
        self.origins = origins
        self.added: list[fx.Node] = []
        copies = {n.name for n in graph.nodes if _copies(n)}
        self.memories = Memories(recording, origins, copies)

    def add_out_of_place(self, addition: Addition) -> None:
        """Make an addition, and those that it is the sum of, additions out of place."""
        for op in sorted(_additions(addition)):
            if self.recording.ops[op].writes and self._replaced(op):
                self.memories.out_of_place.add(op)

    def tap_addition(self, residual: Residual, addition: Addition) -> Tap:
        """The block around an addition; its residue is the branch, or the sum of the branches."""
        first = min(_additions(addition))
        assert residual.skip is not None, "an addition that is tapped lies in the open"
        reader = self.nodes[self.origins.op_nodes[addition.skip.op]]
        skip = self._operand(residual.skip, addition.skip, first, before=reader)
        branch: list[str] = []
        if all(term.factor is not None for term in addition.branch):
            pairs = zip(residual.branch, addition.branch, strict=True)
            branch = [self._operand(name, term, first) for name, term in pairs]
            residue = self._sum(branch, residual.node)
        else:
            residue = self._displacement(self.nodes[residual.node], self.nodes[skip])
        last = self._activation_of(addition.op)
        output = self.origins.op_nodes[last]
        if self.memories.overwritten(self.recording.ops[last].outputs[0], last + 1):
            output = self._copied(self.nodes[output])
        return Tap(residual.kind, residue.name, tuple(branch), skip, residual.node, output)

    def tap_layer(self, layer: Layer) -> Tap:
        """The layer as a block; its residue is the displacement x_{m+1} - x_m."""
        residue = self._displacement(self.nodes[layer.output], self.nodes[layer.input])
        return Tap(Kind.IDENTITY, residue.name, (), layer.input, layer.output, layer.output)

    def tap_input(
        self, residual: Residual, addition: Addition, layouts: LayoutFinder
    ) -> BlockInput:
        """What the branch and the shortcut of a projection start from, or a copy of it."""
        from fxtransport.analysis.block_inputs import describe_input, find_reading, no_input

        reading = find_reading(addition, self.recording, self.origins)
        if reading is None:
            raise no_input(residual)
        name = self.origins.operands[reading.op][reading.operand]
        assert name is not None, "the operation was chosen by that"
        found = describe_input(name, reading.value, residual, addition, layouts)
        produced = self.recording.producer[reading.value]
        first = 0 if produced is None else produced + 1
        return replace(found, node=self._operand(name, reading, first))

    def tap_activation(self, activation: Activation) -> Activation:
        """The activation, or a copy of it, if it is overwritten later."""
        runs = self.origins.op_nodes
        # what computes nothing, such as an input, has no operation
        last = max((i for i, name in enumerate(runs) if name == activation.node), default=None)
        if last is None:
            return activation
        values = self.recording.ops[last].outputs
        if not any(self.memories.overwritten(value, last + 1) for value in values):
            return activation
        return replace(activation, node=self._copied(self.nodes[activation.node]))

    def _operand(self, name: str, term: Term, first: int, before: fx.Node | None = None) -> str:
        """What a term adds: the operand, with its sign and scale, as it is when it is added.

        Args:
            name: The operand.
            term: The term.
            first: The first operation after which the operand may be overwritten.
            before: Where to copy it; else at once, or where it is read if it is written before.
        """
        if before is None and self._written_before(name, term):
            before = self.nodes[self.origins.op_nodes[term.op]]
        node, factors = self.nodes[name], self._factors(term)
        for factor in factors:
            with self.graph.inserting_before(self.nodes[self.origins.op_nodes[term.op]]):
                node = self._add(operator.mul, (node, factor))
        copy = not factors and self.memories.overwritten(term.value, first)
        return self._copied(node, before) if copy else node.name

    def _written_before(self, name: str, term: Term) -> bool:
        """Whether an operand is not yet, where it is computed, what a term adds."""
        producer = self.recording.producer[term.value]
        return producer is not None and self.origins.op_nodes[producer] != name

    def _factors(self, term: Term) -> list[Any]:
        """What a term's operand is multiplied by: numbers, or nodes that compute them."""
        factors: list[Any] = [term.factor, 1]
        if term.keyword is not None:
            node = self.nodes[self.origins.op_nodes[term.op]]
            recorded = self.recording.ops[term.op].keywords.get(term.keyword, 1)
            factors[1] = node.kwargs.get(term.keyword, recorded)
        return [f for f in factors if not (isinstance(f, int | float) and f == 1)]

    def _sum(self, branch: list[str], before: str) -> fx.Node:
        """The sum of parallel branches."""
        total = self.nodes[branch[0]]
        for name in branch[1:]:
            with self.graph.inserting_before(self.nodes[before]):
                total = self._add(operator.add, (total, self.nodes[name]))
        return total

    def _displacement(self, output: fx.Node, skip: fx.Node) -> fx.Node:
        """x_{m+1} - x_m, taken at once."""
        with self.graph.inserting_after(output):
            return self._add(operator.sub, (output, skip))

    def _add(self, function: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
        added = self.graph.call_function(function, args)
        self.added.append(added)
        self.nodes[added.name] = added
        return added

    def _copied(self, node: fx.Node, before: fx.Node | None = None) -> str:
        """A copy of a node's value, taken at once, or before it is read."""
        import torch

        with self.graph.inserting_before(before) if before else self.graph.inserting_after(node):
            return self._add(torch.clone, (node,)).name

    def _replaced(self, op: int) -> bool:
        """Make an addition in place one out of place.

        That is not done if something later reads what it wrote under another name, or if an
        attribute of a module has it.
        """
        from torch import fx

        from fxtransport.runtime import add_out_of_place

        node = self.nodes[self.origins.op_nodes[op]]
        is_addition = node.target in (operator.iadd, "add_")
        if not is_addition or len(node.args) != 2 or node.kwargs:
            return False
        target = node.args[0]
        assert isinstance(target, fx.Node)
        order = {n: i for i, n in enumerate(self.graph.nodes)}
        if any(order[user] > order[node] for user in target.users):
            return False
        if self.memories.read_by_another_name(op, node.name) or self._is_kept(op):
            return False
        node.op, node.target = "call_function", add_out_of_place
        return True

    def _is_kept(self, op: int) -> bool:
        """Whether an attribute is assigned what an addition writes, or a view of it."""
        from fxtransport.runtime import assign

        kept = {str(n.args[2]) for n in self.graph.nodes if n.target is assign}
        return self.memories.is_kept(op, kept)

    def _activation_of(self, addition: int) -> int:
        """The activation that alone reads a sum, and is a node; the addition, if none does."""
        recording, nodes = self.recording, self.origins.op_nodes
        readers = recording.uses[recording.ops[addition].outputs[0]]
        if len(readers) != 1 or recording.ops[addition].outputs[0] in recording.outputs:
            return addition
        reader = readers[0]
        alone = nodes.count(nodes[reader]) == 1 and len(recording.ops[reader].inputs) == 1
        is_activation = recording.ops[reader].base_name in ACTIVATIONS
        return reader if is_activation and alone else addition


def _additions(addition: Addition) -> set[int]:
    """The operations that add the terms of a sum."""
    return {addition.op, *(t.op for t in (addition.skip, *addition.branch))}


def _copies(node: fx.Node) -> bool:
    """Whether a node copies whatever it is given."""
    if node.op == "call_module":
        return False
    name = str(getattr(node.target, "__name__", node.target))
    return name.partition("_")[0] == "clone"
