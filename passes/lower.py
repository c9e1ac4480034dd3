"""Turn the graph into Python functions: the forward, the measured one, and each part's."""

import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import fx, nn

from fxtransport.analysis.blocks import block_regions
from fxtransport.analysis.regions import Region, compile_function, fold, model_regions
from fxtransport.errors import PartitionError
from fxtransport.ir import (
    Checkpoints,
    Costs,
    Origins,
    PartitionPlan,
    Recording,
    Shapes,
    Tap,
    Taps,
    WatchedAttributes,
)
from fxtransport.lowered import Deferred, Function, Lowered, LoweredPart
from fxtransport.module_settings import settings_hash
from fxtransport.passes.base import Pass
from fxtransport.runtime import (
    ITSELF,
    Conditional,
    assign,
    copied,
    displaced,
    measured,
    scaled,
    set_mode,
    tapped,
)
from fxtransport.unit import Unit
from fxtransport.watched import Watched

CHECKPOINTED = " checkpointed"
"""Ends the name of the function of a part that checkpoints its blocks."""


@dataclass(frozen=True)
class Lower(Pass):
    """Generate the functions of the program from the graph."""

    name: ClassVar[str] = "lower"
    requires: ClassVar[tuple[type, ...]] = (
        PartitionPlan,
        Taps,
        Costs,
        Origins,
        WatchedAttributes,
        Checkpoints,
        Recording,
        Shapes,
    )
    provides: ClassVar[tuple[type, ...]] = (Lowered,)

    def run(self, unit: Unit) -> Unit:
        """Add the functions."""
        graph, taps = unit.traced(), unit.fact(Taps)
        name = type(unit.model).__name__
        nodes = [n for n in graph.nodes if n.op != "output"]
        returned = graph.output_node().args[0]
        inputs = [n for n in nodes if n.op == "placeholder"]
        needed = [n for n in nodes if n.name not in taps.added]
        regions = model_regions(unit.fact(Checkpoints).found)
        return unit.with_facts(
            Lowered(
                forward=function(f"{name} forward", inputs, needed, returned, regions),
                parts=lower_parts(unit),
                whole=lower_whole(unit),
                settings=_settings(unit),
            )
        )


def _settings(unit: Unit) -> str:
    """A hash of the settings of the modules, without what the graph writes."""
    nodes = unit.traced().nodes
    written = set[str]().union(*(_attribute_of(n) for n in nodes if _writes(n)))
    return settings_hash(
        unit.model,
        unit.fact(Origins).opened,
        unit.fact(WatchedAttributes).found,
        [(path.rpartition(".")[0], path.rpartition(".")[2]) for path in written],
    )


def _writes(node: fx.Node) -> bool:
    target = node.target
    return (target.function if isinstance(target, Conditional) else target) is assign


def lower_whole(unit: Unit) -> LoweredPart:
    """The model as one part."""
    graph, model, taps = unit.traced(), unit.model, unit.fact(Taps)
    nodes = [n for n in graph.nodes if n.op != "output"]
    inputs = [n for n in nodes if n.op == "placeholder"]
    returned = graph.output_node().args[0]
    name = f"{type(model).__name__} whole"
    kept = _kept(taps, nodes, (), unit.fact(Costs))
    made = _Functions(unit).of(name, inputs, nodes, returned, kept)
    part = LoweredPart(
        made.function,
        owned=(*model._modules, *model._parameters, *model._buffers),
        opened=opened_paths(targets_of(nodes) | made.flags),
        watched=unit.fact(WatchedAttributes).found,
        checkpointing=made.checkpointing,
    )
    return _with_called(unit, part)


def lower_parts(unit: Unit) -> tuple[LoweredPart, ...]:
    """The function of each part of the partition."""
    graph, model = unit.traced(), unit.model
    plan, taps = unit.fact(PartitionPlan), unit.fact(Taps)
    nodes = {n.name: n for n in graph.nodes}
    order = [n for n in graph.nodes if n.op != "output"]
    functions = _Functions(unit)
    made: list[_Made] = []
    targets: list[set[str]] = []
    start = 0
    for k, segment in enumerate(plan.segments):
        last = k == plan.modules - 1
        end = len(order) if last else order.index(nodes[segment.last]) + 1
        body = [n for n in order[start:end] if n.op not in ("placeholder", "get_attr")]
        returned = graph.output_node().args[0] if last else tuple(nodes[o] for o in segment.outputs)
        used = {i for n in body for i in n.all_input_nodes}.union(_nodes_in(returned))
        # attributes are read again by each part that needs them
        body = [n for n in order if n.op == "get_attr" and n in used] + body
        inputs = [nodes[i] for i in segment.inputs]
        name = f"{type(model).__name__} part {k}"
        kept = _kept(taps, body, () if last else segment.outputs, unit.fact(Costs))
        made.append(functions.of(name, inputs, body, returned, kept))
        targets.append(targets_of(body) | made[k].flags)
        start = end
    _refuse_whole(type(model).__name__, targets)
    owned = owned_paths(model, targets)
    opened = [opened_paths(own) for own in targets]
    called = set[str]().union(*targets)
    watched = [
        _watched(unit, {"", *around, *own}, called)
        for around, own in zip(opened, targets, strict=True)
    ]
    pairs = zip(made, owned, opened, watched, strict=True)
    return tuple(
        _with_called(
            unit, LoweredPart(m.function, own, around, entries, checkpointing=m.checkpointing)
        )
        for m, own, around, entries in pairs
    )


class _Made(NamedTuple):
    """The functions of a part."""

    function: Function
    checkpointing: Deferred | None
    flags: set[str]
    """The modes that decide whether the model checkpoints something in it."""


class _Functions:
    """Makes the functions of parts.

    Args:
        unit: The model and its facts.
    """

    def __init__(self, unit: Unit) -> None:
        self._taps = unit.fact(Taps)
        self._regions = model_regions(unit.fact(Checkpoints).found)
        self._blocks = block_regions(unit)

    def of(
        self,
        name: str,
        inputs: Sequence[fx.Node],
        body: Sequence[fx.Node],
        returned: Any,
        kept: Collection[str],
    ) -> _Made:
        """The functions of a part; see :func:`measuring_function`."""
        names = {n.name for n in body}
        regions = [r for r in self._regions if not names.isdisjoint(r.nodes)]
        blocks = [r for r in self._blocks if not names.isdisjoint(r.nodes)]

        def made(name: str, regions: Sequence[Region]) -> Function:
            return measuring_function(name, inputs, body, returned, self._taps, kept, regions)

        again = partial(made, f"{name}{CHECKPOINTED}", [*regions, *blocks])
        checkpointing = Deferred(again) if blocks else None
        flags = {region.flag for region in regions if region.flag is not None}
        return _Made(made(name, regions), checkpointing, flags)


def _refuse_whole(name: str, targets: Sequence[set[str]]) -> None:
    """Refuse to cut a model that hands itself to what it calls: a part is not all of it.

    Raises:
        PartitionError: it does.
    """
    if len(targets) > 1 and any("" in own for own in targets):
        raise PartitionError(
            f"the model ({name}) hands itself to a function that is transformed, as by "
            "torch.vmap(lambda x: self.layer(x)), so a part of it cannot tell what that uses; "
            "name what the function uses first (layer = self.layer), or set modules=1"
        )


def _with_called(unit: Unit, part: LoweredPart) -> LoweredPart:
    """The part, which knows of which modules only attributes are read."""
    return replace(part, called=frozenset(part.entered) - unit.fact(Origins).opened)


def targets_of(nodes: Iterable[fx.Node]) -> set[str]:
    """What some nodes refer to by path, also what they write."""
    found = set()
    for node in nodes:
        if node.op in ("get_attr", "call_module"):
            found.add(str(node.target))
            if _is_handed_on(node):
                found.add(str(node.target).removesuffix(ITSELF).rstrip("."))
        else:
            found |= _attribute_of(node)
    return found


def _is_handed_on(node: fx.Node) -> bool:
    """Whether a module whose code is in the graph is given to what may call it."""
    if node.op != "get_attr" or not str(node.target).endswith(ITSELF):
        return False
    targets = (
        u.target.function if isinstance(u.target, Conditional) else u.target for u in node.users
    )
    return any(target not in (assign, getattr, set_mode) for target in targets)


def _attribute_of(node: fx.Node) -> set[str]:
    """The attribute that a node reads in its place, or writes; perhaps in one mode only."""
    target, args = node.target, node.args
    if isinstance(target, Conditional):
        target, args = target.function, args[1:]
    if target not in (assign, getattr):
        return set()
    holder, name = args[:2]
    if not isinstance(holder, fx.Node) or not str(holder.target).endswith(ITSELF):
        return set()
    return {f"{str(holder.target).removesuffix(ITSELF)}{name}"}


def _watched(unit: Unit, own: set[str], called: set[str]) -> tuple[Watched, ...]:
    """The attributes that the code of a part depends on.

    What is no attribute may be read by every part, and is noted where it was read first.

    Args:
        unit: The model and its facts.
        own: The paths of the modules in the part.
        called: The paths of all that any part refers to.
    """
    elsewhere = called | unit.fact(Origins).opened
    found = []
    for entry in unit.fact(WatchedAttributes).found:
        around = entry.path.rpartition(".")[0]
        if entry.path in own or (entry.path not in elsewhere and around in own):
            found.append(entry)
        elif entry.is_elsewhere:
            found.append(replace(entry, path=""))
    return tuple(found)


def opened_paths(targets: Iterable[str]) -> tuple[str, ...]:
    """The paths of the modules around what a function refers to, without the root."""
    found = set()
    for path in targets:
        itself = path.endswith(ITSELF)
        around = path.removesuffix(ITSELF).rstrip(".") if itself else path.rpartition(".")[0]
        names = around.split(".") if around else []
        found |= {".".join(names[: depth + 1]) for depth in range(len(names))}
    return tuple(sorted(found))


def owned_paths(model: nn.Module, targets: Sequence[set[str]]) -> list[tuple[str, ...]]:
    """For each part of a partition, the outermost paths of what it uses of the model.

    Args:
        model: The model.
        targets: For each part, the paths that its nodes refer to.
    """
    users: dict[str, set[int]] = {}
    for k, paths in enumerate(targets):
        for path in paths:
            if path.endswith(ITSELF):
                continue
            names = path.split(".")
            for depth in range(1, len(names) + 1):
                users.setdefault(".".join(names[:depth]), set()).add(k)

    def owned(k: int, module: nn.Module, prefix: str) -> Iterator[str]:
        for name in [*module._modules, *module._parameters, *module._buffers]:
            path = f"{prefix}{name}"
            if k not in users.get(path, ()):
                continue
            child = module._modules.get(name)
            if child is None or users[path] == {k} or path in targets[k]:
                yield path
            else:
                yield from owned(k, child, f"{path}.")

    return [tuple(owned(k, model, "")) for k in range(len(targets))]


def function(
    name: str,
    inputs: Sequence[fx.Node],
    body: Iterable[fx.Node],
    returned: Any,
    regions: Sequence[Region] = (),
) -> Function:
    """A function of some nodes of a graph.

    Args:
        name: What tracebacks call it.
        inputs: The nodes whose values are its arguments.
        body: What it computes, in order.
        returned: What it returns, made of nodes.
        regions: What is computed again in the backward pass.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in body:
        if node.op != "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(fx.map_arg(returned, copies.__getitem__))
    fold(graph, copies, regions)
    return compile_function(name, graph)


def measuring_function(
    name: str,
    inputs: Sequence[fx.Node],
    body: Sequence[fx.Node],
    returned: Any,
    taps: Taps,
    kept: Collection[str],
    regions: Sequence[Region] = (),
) -> Function:
    """A function of some nodes, and of a measure, last, which is given the blocks in them.

    It returns a pair, whose second is what was measured of each block in ``body`` and of each
    named activation. A block is measured as soon as its output is there, before anything can
    overwrite it.

    Args:
        name: What tracebacks call it.
        inputs: The nodes whose values are its arguments.
        body: What it computes, in order.
        returned: What it returns, made of nodes.
        taps: The residual blocks.
        kept: The residues of the blocks whose x_m and x_{m+1} are kept for backward anyway.
        regions: What is computed again in the backward pass.
    """
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    measure = graph.placeholder("measure")
    ready, sums = _ready(taps, body), _sums(taps)
    activations: dict[str, list[str]] = {}
    for activation in taps.activations:
        activations.setdefault(activation.node, []).append(activation.name)
    found: list[fx.Node] = []
    at = {node.name: copy for node, copy in copies.items()}
    branches: dict[str, tuple[fx.Node, ...]] = {}
    for node in body:
        if node.op == "placeholder":
            continue
        if node.name not in taps.added:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        elif node.target in _LOWERED:
            values = fx.map_arg(node.args, copies.__getitem__)
            copies[node] = graph.call_function(_LOWERED[node.target], (measure, *values))
        if node in copies:
            at[node.name] = copies[node]
        for tap in sums.get(node.name, ()):
            difference = graph.call_function(displaced, (measure, at[tap.sum], at[tap.skip]))
            branches[tap.residue] = (difference,)
        for tap in ready.get(node.name, ()):
            at = {n.name: copy for n, copy in copies.items()}
            terms = branches.get(tap.residue) or tuple(at[name] for name in tap.branch)
            total = at[tap.sum]
            output = at.get(tap.output, total)
            flags = (tap.residue in kept, output is not total)
            block = (measure, tap.kind.value, terms, at[tap.skip], output, *flags)
            found.append(
                graph.call_function(
                    measured, (*block, *_start(tap, at, name.removesuffix(CHECKPOINTED)))
                )
            )
        for name in activations.get(node.name, ()):
            found.append(graph.call_function(tapped, (measure, name, copies[node])))
    graph.output((fx.map_arg(returned, copies.__getitem__), found))
    fold(graph, copies, regions)
    return compile_function(name, graph)


def _start(tap: Tap, at: Mapping[str, fx.Node], name: str) -> tuple[Any, ...]:
    """The input of a block and the dimensions of channels; nothing where it is not handed on.

    Raises:
        PartitionError: a cut parts the block from its input.
    """
    if tap.input is None:
        return ()
    if tap.input.node not in at:
        raise PartitionError(
            f"a cut of {name} lies inside the residual block that ends in {tap.sum!r}, whose input "
            f"{tap.input.node!r} is not handed on; cut elsewhere, or compile with "
            "projection_inputs=False"
        )
    return at[tap.input.node], (tap.input.channels, tap.input.output_channels)


_LOWERED: dict[Any, Callable[..., Any]] = {torch.clone: copied, operator.mul: scaled}
"""What the nodes that were added for residues do if something is to be measured."""


def _sums(taps: Taps) -> dict[str, list[Tap]]:
    """The blocks whose residue is y - skip and that go on after y, by the node of y.

    Where they end in y, the residue follows from their ends.
    """
    sums: dict[str, list[Tap]] = {}
    for tap in taps.found:
        if not tap.branch and tap.output != tap.sum:
            sums.setdefault(tap.sum, []).append(tap)
    return sums


def _ready(taps: Taps, body: Sequence[fx.Node]) -> dict[str, list[Tap]]:
    """The blocks among some nodes, by the node after which all values of each are there."""
    names = {n.name for n in body}
    ready: dict[str, list[Tap]] = {}
    for tap in taps.found:
        if tap.sum in names:
            # a cut by hand may part the sum from its activation; the block then ends in the sum
            last = tap.output if tap.output in names else tap.sum
            ready.setdefault(last, []).append(tap)
    return ready


def _kept(
    taps: Taps, body: Sequence[fx.Node], left: Collection[str], costs: Costs
) -> frozenset[str]:
    """The residues of the blocks whose x_m and x_{m+1} are kept for backward anyway.

    Args:
        taps: The residual blocks.
        body: The nodes that run in a part.
        left: Those whose values leave it: whoever takes them keeps them.
        costs: What each node keeps for backward.
    """
    values = {name: cost.value for name, cost in costs.nodes.items() if cost.value is not None}
    kept = {values[name] for name in left if name in values}
    for node in body:
        kept |= costs.nodes[node.name].kept if node.name in costs.nodes else frozenset()
    ends = {tap.residue: {values.get(tap.skip), values.get(tap.output)} for tap in taps.found}
    return frozenset(residue for residue, pair in ends.items() if pair <= kept)


def _nodes_in(returned: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(returned, found.append)
    return found
