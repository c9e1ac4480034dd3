"""Turn the graph into Python functions: the forward, the measured one, and each part's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

from torch import fx

from fxtransport.analysis.blocks import block_regions
from fxtransport.analysis.measuring import (
    CHECKPOINTED,
    function,
    kept_residues,
    measuring_function,
)
from fxtransport.analysis.owning import (
    attribute_of,
    opened_paths,
    owned_paths,
    targets_of,
    writes_attribute,
)
from fxtransport.analysis.regions import model_regions
from fxtransport.errors import PartitionError
from fxtransport.ir import (
    Checkpoints,
    Costs,
    Origins,
    PartitionPlan,
    Recording,
    Shapes,
    Taps,
    WatchedAttributes,
)
from fxtransport.lowered import Deferred, Function, Lowered, LoweredPart
from fxtransport.module_settings import settings_hash
from fxtransport.passes.base import Pass
from fxtransport.unit import Unit
from fxtransport.watched import Watched


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
    written = set[str]().union(*(attribute_of(n) for n in nodes if writes_attribute(n)))
    return settings_hash(
        unit.model,
        unit.fact(Origins).opened,
        unit.fact(WatchedAttributes).found,
        [(path.rpartition(".")[0], path.rpartition(".")[2]) for path in written],
    )


def lower_whole(unit: Unit) -> LoweredPart:
    """The model as one part."""
    graph, model, taps = unit.traced(), unit.model, unit.fact(Taps)
    nodes = [n for n in graph.nodes if n.op != "output"]
    inputs = [n for n in nodes if n.op == "placeholder"]
    returned = graph.output_node().args[0]
    name = f"{type(model).__name__} whole"
    kept = kept_residues(taps, nodes, (), unit.fact(Costs))
    made = _Functions(unit).of(name, inputs, nodes, returned, kept)
    part = LoweredPart(
        made.function,
        owned=(*model._modules, *model._parameters, *model._buffers),
        opened=opened_paths(targets_of(nodes) | made.flags),
        watched=unit.fact(WatchedAttributes).found,
        checkpointing=made.checkpointing,
        checkpointable=made.checkpointable,
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
        kept = kept_residues(taps, body, () if last else segment.outputs, unit.fact(Costs))
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
            unit,
            LoweredPart(
                m.function,
                own,
                around,
                entries,
                checkpointing=m.checkpointing,
                checkpointable=m.checkpointable,
            ),
        )
        for m, own, around, entries in pairs
    )


class _Made(NamedTuple):
    """The functions of a part."""

    function: Function
    checkpointing: Deferred | None
    checkpointable: int
    """The number of blocks that it can compute again."""
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
        inside = [r for r in self._blocks if not names.isdisjoint(r.nodes)]
        blocks = [replace(region, number=number) for number, region in enumerate(inside)]
        given = (inputs, body, returned, self._taps, kept)
        again = partial(
            measuring_function, f"{name}{CHECKPOINTED}", *given, [*regions, *blocks], counts=True
        )
        checkpointing = Deferred(again) if blocks else None
        flags = {region.flag for region in regions if region.flag is not None}
        return _Made(measuring_function(name, *given, regions), checkpointing, len(blocks), flags)


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


def _nodes_in(returned: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(returned, found.append)
    return found
