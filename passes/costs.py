"""Count what each node costs: parameters, operations, bytes saved for backward."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fxtransport.errors import UsageError
from fxtransport.ir import Costs, NodeCost, Origins, Value
from fxtransport.passes.base import Pass, setting
from fxtransport.runtime import guard
from fxtransport.tracing.error_context import blaming
from fxtransport.tracing.shadow import shadow_of
from fxtransport.unit import Unit


@dataclass(frozen=True)
class CountCosts(Pass):
    """Count parameters, FLOPs and the bytes that each node saves for backward.

    One training step's forward runs on fake tensors, which have a device and no data, so
    that each operator saves what it saves on that device.
    """

    name: ClassVar[str] = "costs"
    requires: ClassVar[tuple[type, ...]] = (Origins,)
    provides: ClassVar[tuple[type, ...]] = (Costs,)

    batch_size: int = setting(32, "What activations are counted for.", metavar="N", least=1)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, not {self.batch_size}")

    def run(self, unit: Unit) -> Unit:
        """Add the costs of all nodes."""
        device = device_of(unit.model)
        with FakeTensorMode():
            shadow = shadow_of(unit.model, device).train()
            ledger = _Ledger(shadow)
            inputs = unit.example.resized(self.batch_size, device)
            interpreter = _CountingInterpreter(shadow, unit.traced(), ledger)
            try:
                with blaming(unit.model, lambda: interpreter.failed_path), ledger, _saving(ledger):
                    interpreter.run(*inputs)
            finally:
                ledger.let_go()
        names = _parameter_names(unit.model)
        nodes = {
            node.name: NodeCost(
                parameters=_parameters(unit.model, names, node),
                flops=ledger.flops.get(node.name, 0) // self.batch_size,
                saved=ledger.saved.get(node.name, {}),
                value=ledger.values.get(node.name),
                kept=frozenset(ledger.kept.get(node.name, ())),
            )
            for node in unit.traced().nodes
        }
        return unit.with_facts(Costs(nodes, self.batch_size))


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for one without data."""
    first = next(model.parameters(), None)
    if first is None or first.device.type == "meta":
        return torch.device("cpu")
    return first.device


@dataclass
class _Ledger(TorchDispatchMode):
    """Books floating-point operations and saved storages on the node that is running."""

    shadow: nn.Module
    node: str = ""
    flops: dict[str, int] = field(default_factory=dict)
    saved: dict[str, dict[int, int]] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    kept: dict[str, set[Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # a parameter is there anyway, whether or not backward needs it
        self._owned = {
            t.untyped_storage()._cdata for t in [*self.shadow.parameters(), *self.shadow.buffers()]
        }
        # so that no later storage has the same identity
        self._alive: list[torch.Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            flops = count(*args, **(kwargs or {}), out_val=out)
            self.flops[self.node] = self.flops.get(self.node, 0) + int(flops)
        return out

    def save(self, tensor: torch.Tensor) -> None:
        """Book a tensor that autograd keeps for backward, which never comes."""
        storage = tensor.untyped_storage()
        self.kept.setdefault(self.node, set()).add(_value(tensor))
        self._alive.append(tensor)
        if storage._cdata not in self._owned:
            self.saved.setdefault(self.node, {})[storage._cdata] = storage.nbytes()

    def compute(self, tensor: torch.Tensor) -> None:
        """Book what the node has computed."""
        self._alive.append(tensor)
        self.values[self.node] = _value(tensor)

    def let_go(self) -> None:
        """Keep no tensor alive: its graph has the ledger, a cycle that is not collected."""
        self._alive.clear()


def _value(tensor: torch.Tensor) -> Value:
    return tensor.untyped_storage()._cdata, tensor._version


def _saving(ledger: _Ledger) -> saved_tensors_hooks:
    # what autograd is given to keep must not be the tensor, whose graph would then hold itself
    return saved_tensors_hooks(ledger.save, lambda nothing: nothing)


class _CountingInterpreter(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph, ledger: _Ledger) -> None:
        super().__init__(module, graph=graph)
        self.ledger = ledger
        self.failed_path: str | None = None

    def run_node(self, n: fx.Node) -> Any:
        if n.target is guard:
            # the graph is what it is for the example, whose batch size is another
            return None
        self.ledger.node = n.name
        self.failed_path = str(n.target) if n.op == "call_module" else ""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.ledger.compute(result)
        return result


def _parameter_names(model: nn.Module) -> dict[int, str]:
    return {id(p): name for name, p in model.named_parameters()}


def _parameters(model: nn.Module, names: Mapping[int, str], node: fx.Node) -> dict[str, int]:
    """The parameters that a node uses, each by its first name, with their sizes."""
    if node.op == "call_module":
        used = list(model.get_submodule(str(node.target)).parameters())
    elif node.op == "get_attr":
        used = [p for p in [_parameter(model, str(node.target))] if p is not None]
    else:
        used = []
    return {names[id(p)]: p.numel() for p in used}


def _parameter(model: nn.Module, path: str) -> nn.Parameter | None:
    owner, _, name = path.rpartition(".")
    found = getattr(model.get_submodule(owner), name)
    return found if isinstance(found, nn.Parameter) else None
