"""Count what each node costs: parameters, operations, bytes saved for backward."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fxtransport.errors import GuardError, TraceError, UsageError
from fxtransport.ir import Costs, NodeCost, Origins, Taps
from fxtransport.passes.base import Pass, setting

if TYPE_CHECKING:
    from torch import fx, nn

    from fxtransport.analysis.counting import Ledger
    from fxtransport.unit import Unit


@dataclass(frozen=True)
class CountCosts(Pass):
    """Count parameters, FLOPs and the bytes that each node saves for backward.

    One training step's forward runs on fake tensors, which have a device and no data, so
    that each operator saves what it saves on that device. Where the model refuses the batch
    size, that of the example is taken. Costs are of the model's own nodes;
    nodes that other passes added cost nothing.
    """

    name: ClassVar[str] = "costs"
    requires: ClassVar[tuple[type, ...]] = (Origins,)
    provides: ClassVar[tuple[type, ...]] = (Costs,)

    batch_size: int = setting(
        32, "The batch size for which activations are counted.", metavar="N", least=1
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {self.batch_size}")

    def run(self, unit: Unit) -> Unit:
        """Add the costs of all nodes.

        Raises:
            TraceError: the model raises in train mode, for the example's batch size too.
        """
        batch_size, ledger = self._counted(unit)
        names = {id(p): name for name, p in unit.model.named_parameters()}
        added = unit.fact(Taps).added if unit.has(Taps) else ()
        nodes = {
            node.name: NodeCost(
                parameters=_parameters(unit.model, names, node),
                flops=ledger.flops.get(node.name, 0) // batch_size,
                saved=ledger.saved.get(node.name, {}),
                value=ledger.values.get(node.name),
                kept=frozenset(ledger.kept.get(node.name, ())),
            )
            for node in unit.traced().nodes
            if node.name not in added
        }
        return unit.with_facts(Costs(nodes, batch_size, ledger.storages))

    def _counted(self, unit: Unit) -> tuple[int, Ledger]:
        """The costs, and of which batch size.

        The model may look at values that follow from sizes alone, which is slow to allow, and
        it may take no other batch size than that of the example.
        """
        own = unit.example.batch_size
        for batch_size, known in ((self.batch_size, False), (self.batch_size, True), (own, False)):
            try:
                return batch_size, _count(unit, batch_size, known=known)
            except (TraceError, GuardError):
                continue
        return own, _count(unit, own, known=True)


def _count(unit: Unit, batch_size: int, *, known: bool) -> Ledger:
    """Run the graph once, and book what each node does."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from fxtransport.analysis.counting import CountingInterpreter, Ledger, device_to_count_for
    from fxtransport.tracing.constants import known_values
    from fxtransport.tracing.error_context import LocateErrors, advise_on_meta
    from fxtransport.tracing.shadow import shadow_of

    device = device_to_count_for(unit.model)
    # constants of the code, and scripted modules, have real tensors
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        shadow = shadow_of(unit.model, device, fake).train()
        ledger = Ledger(shadow)
        inputs = unit.example.resized(batch_size, device)
        interpreter = CountingInterpreter(shadow, unit.traced(), ledger)
        advise = advise_on_meta(unit.model, unit.example, trained=True)
        values = known_values(unit.model, shadow) if known else nullcontext()
        located = LocateErrors(unit.model, lambda: interpreter.failed_path, advise)
        with located, ledger.open(), values:
            interpreter.run(*inputs)
    return ledger


def _parameters(model: nn.Module, names: Mapping[int, str], node: fx.Node) -> dict[str, int]:
    """The parameters that a node uses, each by its first name, with their sizes."""
    from fxtransport.runtime import ITSELF

    if node.op == "call_module":
        used = list(model.get_submodule(str(node.target)).parameters())
    elif node.op == "get_attr" and not str(node.target).endswith(ITSELF):
        used = [p for p in [_parameter(model, str(node.target))] if p is not None]
    else:
        used = []
    # a buffer may be an nn.Parameter, and then is none of the model's parameters
    return {names[id(p)]: p.numel() for p in used if id(p) in names}


def _parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    from torch import nn

    owner, _, name = path.rpartition(".")
    found = getattr(model.get_submodule(owner), name)
    return found if isinstance(found, nn.Parameter) else None
