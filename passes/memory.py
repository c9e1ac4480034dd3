"""Find out what training holds in memory, part by part, for any cuts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fxtransport.ir import (
    Amp,
    Boundaries,
    Boundary,
    Costs,
    Crossing,
    HeadMemory,
    Heads,
    HeadSpec,
    Layers,
    OptimizerMemory,
    Origins,
    Residuals,
    Shapes,
    Taps,
    TrainingMemory,
    WatchedAttributes,
)
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    import torch

    from fxtransport.analysis.stepping import Step
    from fxtransport.unit import Unit


@dataclass(frozen=True)
class CountMemory(Pass):
    """Rehearse a training step of the whole, and book what it holds in memory, and when.

    The step runs on fake tensors, which have a device and no data: a classification loss, the
    mean square of each residue, and the optimizer. The graph is run in stretches from one legal
    boundary to the next; what any part holds follows from what its stretches hold.
    """

    name: ClassVar[str] = "memory"
    requires: ClassVar[tuple[type, ...]] = (
        Boundaries,
        Costs,
        Heads,
        Layers,
        Origins,
        Residuals,
        Shapes,
        Taps,
        WatchedAttributes,
    )
    provides: ClassVar[tuple[type, ...]] = (TrainingMemory,)
    on_demand: ClassVar[bool] = True

    optimizer: str = setting(
        "momentum",
        "The optimizer, a name in timm.optim, where memory is balanced.",
        metavar="NAME",
    )
    amp: Amp = setting(
        Amp.NONE, "The precision of the forward, where memory is balanced.", flag="--amp"
    )
    measure: bool = True
    """Whether residues are measured, as for a transport cost."""
    checkpoint: bool = False
    """Whether residual blocks are computed again in the backward pass. Then no cut may divide one.
    """
    recompute: bool = False
    """Whether norms and activations are computed again in the backward pass."""
    device: str = ""
    """Where training is to run, ``cpu`` or ``cuda``; the model's device if empty. There need not be
    one."""

    def run(self, unit: Unit) -> Unit:
        """Add what training holds.

        Raises:
            UsageError: there is no such optimizer.
            GuardError: the program would refuse the batch size.
        """
        import torch

        from fxtransport.analysis.counting import device_to_count_for
        from fxtransport.fakes import without_data

        device = torch.device(self.device) if self.device else device_to_count_for(unit.model)
        boundaries = _points(unit)
        with without_data(device) as fakes:
            step, batch = self._step(unit, boundaries, device, fakes)
            held, numbers = step.held()
        again = _kept_to_compute_again(unit) if self.checkpoint else {}
        crossing = [
            _crossing(unit, b, step.left[k], numbers, boundaries, again)
            for k, b in enumerate(boundaries)
        ]
        return unit.with_facts(
            TrainingMemory(
                ends=tuple(b.after for b in boundaries),
                batch_size=unit.fact(Costs).batch_size,
                model=_bytes([*unit.model.parameters(), *unit.model.buffers()]),
                batch=batch,
                held=tuple(held),
                inner=dict(step.inner),
                inner_alone=dict(step.inner_alone),
                forwards=tuple(step.forwards),
                backwards=tuple(step.backwards()),
                crossing=((), *crossing, ()),
                parameters=tuple(step.parameters),
                heads=self._heads(unit, boundaries, device),
                optimizer=self._optimizer(unit, device),
            )
        )

    def _step(
        self, unit: Unit, boundaries: Sequence[Boundary], device: torch.device, fakes: Any
    ) -> tuple[Step, int]:
        """The step of the whole, and the bytes of the batch."""
        from fxtransport.analysis.stepping import Step
        from fxtransport.passes.lower import lower_parts
        from fxtransport.passes.partition import Partition
        from fxtransport.residue import mean_square_branch
        from fxtransport.tracing.shadow import shadow_of

        by_hand = replace(unit.fact(Boundaries), cuts=tuple(boundaries))
        stretched = Partition().run(unit.with_facts(by_hand))
        shadow = shadow_of(unit.model, device, fakes.mode).train()
        amp = None if self.amp is Amp.NONE else str(self.amp)
        measure = mean_square_branch if self.measure else None
        step = Step(shadow, device, amp, measure, recompute=self.recompute)
        batch_size = unit.fact(Costs).batch_size
        state: Any = unit.example.resized(batch_size, device)
        batch = step.add(state) + batch_size * 8
        for part in lower_parts(stretched):
            again = part.checkpointing if self.checkpoint else None
            if again is None:
                state = step.forward(part.function.call, state)
            else:
                state = step.forward(again.function.call, state, part.checkpointable)
        # a replayed backward frees what a node has saved only with the node
        returned = [state]
        del state
        step.backward(returned.pop())
        return step, batch

    def _heads(
        self, unit: Unit, boundaries: Sequence[Boundary], device: torch.device
    ) -> tuple[tuple[HeadMemory, ...], ...]:
        """What the heads of all parts hold, by where the part ends, then by where it begins."""
        from fxtransport.analysis.head_sizes import sizes_of
        from fxtransport.analysis.line import Line

        line = Line(unit, boundaries)
        found = []
        for j, (boundary, head) in enumerate(zip(boundaries, line.heads, strict=True), start=1):
            sizes, chosen = sizes_of(head), line.sizes(j).tolist()
            held = {k: self._head(unit, boundary, sizes[k].spec, device) for k in {*chosen}}
            found.append(tuple(held[k] for k in chosen))
        return tuple(found)

    def _head(
        self, unit: Unit, boundary: Boundary, spec: HeadSpec, device: torch.device
    ) -> HeadMemory:
        """What a head of a boundary holds."""
        from fxtransport.analysis.holdings import head_memory

        shapes, example = unit.fact(Shapes).specs, unit.fact(Costs).batch_size
        read = tuple(shapes[boundary.crossing[i]].shape[1:] for i in spec.inputs)
        amp = None if self.amp is Amp.NONE else str(self.amp)
        return head_memory(spec, read, example, device, amp, self.optimizer)

    def _optimizer(self, unit: Unit, device: torch.device) -> OptimizerMemory:
        """What the optimizers hold for the parameters of the model."""
        from fxtransport.analysis.holdings import optimizer_state, optimizer_temporaries

        named = {n: p for n, p in unit.model.named_parameters() if p.requires_grad}
        shapes = [(tuple(p.shape), p.dtype) for p in named.values()]
        if not shapes:
            return OptimizerMemory({}, 0.0, False)
        state = optimizer_state(self.optimizer, shapes, device)
        largest = max(named.values(), key=lambda p: p.numel() * p.element_size())
        shape = (tuple(largest.shape), largest.dtype)
        temporaries, of_all = optimizer_temporaries(self.optimizer, shape, device)
        return OptimizerMemory(dict(zip(named, state, strict=True)), temporaries, of_all)


def _points(unit: Unit) -> list[Boundary]:
    """The boundaries to choose from, and the cuts by hand, in execution order."""
    from fxtransport.analysis.line import legal_line, with_heads

    position = {node.name: i for i, node in enumerate(unit.traced().nodes)}
    by_hand = with_heads(unit, unit.fact(Boundaries).cuts)
    every = {b.after: b for b in (*by_hand, *legal_line(unit).boundaries)}
    return sorted(every.values(), key=lambda b: position[b.after])


def _crossing(
    unit: Unit,
    boundary: Boundary,
    left: Sequence[Any],
    numbers: dict[int, int],
    boundaries: Sequence[Boundary],
    again: Mapping[int, set[str]],
) -> tuple[Crossing, ...]:
    """What crosses at a boundary, each storage once."""
    costs = unit.fact(Costs).nodes
    position = {node.name: i for i, node in enumerate(unit.traced().nodes)}
    ends = [position[b.after] for b in boundaries]
    found: dict[int, Crossing] = {}
    names = [n for n in boundary.crossing if n in unit.fact(Shapes).specs]
    for name, held in zip(names, left, strict=len(names) == len(left)):
        value = costs[name].value if name in costs else None
        keep = set[str]() if value is None else again.get(value[0], set())
        keep |= {n for n, cost in costs.items() if value is not None and value[0] in cost.saved}
        savers = {bisect_left(ends, position[node]) for node in keep}
        number = numbers.get(id(held), -1)
        found[id(held)] = Crossing(number, held.size, tuple(sorted(savers)))
    return tuple(found.values())


def _kept_to_compute_again(unit: Unit) -> dict[int, set[str]]:
    """The storages that residual blocks are given, and the nodes in the blocks that read them."""
    from fxtransport.analysis.blocks import block_regions

    costs, nodes = unit.fact(Costs).nodes, {n.name: n for n in unit.traced().nodes}
    found: dict[int, set[str]] = {}
    for region in block_regions(unit):
        for name in region.nodes:
            for given in nodes[name].all_input_nodes:
                value = costs[given.name].value if given.name in costs else None
                if value is not None and given.name not in region.nodes:
                    found.setdefault(value[0], set()).add(name)
    return found


def _bytes(tensors: Sequence[torch.Tensor]) -> int:
    """The bytes of some tensors, each storage once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
