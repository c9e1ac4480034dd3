"""Count what running a module costs: operations, and the bytes that are saved for backward.

One forward pass runs on fake tensors, which have a device and no data, so that each operator
saves what it saves on that device.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest import mock

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import graph
from torch.autograd.graph import saved_tensors_hooks
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fxtransport.heads import build_head, dtype_of
from fxtransport.ir import HeadCost, HeadSpec, Value
from fxtransport.runtime import Conditional, guard
from fxtransport.tracing.kernels import run_without_data
from fxtransport.tracing.shadow import shadow_of


@dataclass
class Ledger(TorchDispatchMode):
    """Books floating-point operations and saved storages on the node that is running."""

    supports_higher_order_operators = True

    module: nn.Module
    """What runs, with fake tensors. Its parameters and buffers are never booked as saved."""
    node: str = ""
    flops: dict[str, int] = field(default_factory=dict)
    saved: dict[str, dict[int, int]] = field(default_factory=dict)
    """For each node, the bytes of each storage that it saves."""
    values: dict[str, Value] = field(default_factory=dict)
    kept: dict[str, set[Value]] = field(default_factory=dict)
    storages: dict[int, int] = field(default_factory=dict)
    """The bytes of each storage that a node's value lies in."""

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # a parameter is there anyway, whether or not backward needs it
        owned = [*self.module.parameters(), *self.module.buffers()]
        self._owned = {storage_number(t) for t in owned}
        # so that no later storage has the same number; a forward may replace a buffer
        self._alive: list[torch.Tensor] = owned

    @contextmanager
    def open(self) -> Iterator[None]:
        """Book what runs inside."""
        # what autograd is given to keep must not be the tensor, whose graph would then hold itself
        # transforms of torch.func refuse hooks, because these would see their wrapped tensors
        unrefused = mock.patch.object(graph, "disable_saved_tensors_hooks", lambda _: nullcontext())
        # what the kernels of fake tensors refuse is not an error yet
        silent = mock.patch.object(logging.getLogger(FakeTensorMode.__module__), "disabled", True)
        with unrefused, silent, self, saved_tensors_hooks(self.save, self.load):
            try:
                yield
            finally:
                # a tensor's graph has the ledger: a cycle that is not collected
                self._alive.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = run_without_data(func, args, kwargs or {})
        count = flop_registry.get(getattr(func, "overloadpacket", func))
        if count is not None:
            flops = count(*args, **(kwargs or {}), out_val=out)
            self.flops[self.node] = self.flops.get(self.node, 0) + int(flops)
        return out

    def save(self, tensor: torch.Tensor) -> torch.Tensor | int:
        """Book a tensor that autograd keeps for backward.

        What it is given to keep instead is a number, except in a transform of ``torch.func``.
        Backward comes only where the model's own code differentiates.
        """
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return tensor
        self.kept.setdefault(self.node, set()).add(_value(tensor))
        self._alive.append(tensor)
        number = storage_number(tensor)
        if number not in self._owned:
            size = tensor.untyped_storage().nbytes()
            self.saved.setdefault(self.node, {})[number] = size
        return len(self._alive) - 1

    def load(self, kept: torch.Tensor | int) -> torch.Tensor:
        """The tensor that :meth:`save` was given."""
        return self._alive[kept] if isinstance(kept, int) else kept

    def compute(self, tensor: torch.Tensor) -> None:
        """Book what the node has computed."""
        self._alive.append(tensor)
        self.values[self.node] = _value(tensor)
        self.storages[storage_number(tensor)] = tensor.untyped_storage().nbytes()


class CountingInterpreter(fx.Interpreter):
    """Runs a graph, and tells a ledger which node is running."""

    def __init__(self, module: nn.Module, traced: fx.Graph, ledger: Ledger) -> None:
        super().__init__(module, graph=traced)
        self.ledger = ledger
        self.failed_path: str | None = None
        """The path of the module that ran last."""

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        """The values of arguments, in containers that the model's code may change."""
        return _plain(super().map_nodes_to_values(args, n))

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and book what it computes."""
        if n.target is guard or n.target == Conditional(guard):
            # the graph is what it is for the example, whose batch size is another
            return None
        self.ledger.node = n.name
        self.failed_path = str(n.target) if n.op == "call_module" else ""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.ledger.compute(result)
        return result


def _plain(value: Any) -> Any:
    """A value in which fx's containers, which do not change, are those of Python."""
    if isinstance(value, immutable_dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, immutable_list):
        return [_plain(inner) for inner in value]
    return tuple(map(_plain, value)) if type(value) is tuple else value


@lru_cache(maxsize=1024)
def count_head(
    spec: HeadSpec,
    shapes: tuple[tuple[int, ...], ...],
    batch_size: int,
    device: torch.device,
) -> tuple[HeadCost, tuple[bool, ...]]:
    """What an auxiliary head costs, and which of the tensors that it reads it saves.

    Args:
        spec: The head.
        shapes: The shapes of the tensors that it reads, without the batch.
        batch_size: What activations are counted for.
        device: Where it would run.
    """
    with torch.device("meta"):
        head = build_head(spec)
    dtype = dtype_of(spec)
    if device.type == "cpu":
        # its operators save the same for meta tensors, on which they are several times faster
        return _count_head(head, shapes, batch_size, dtype, torch.device("meta"))
    with FakeTensorMode() as fake:
        return _count_head(shadow_of(head, device, fake).train(), shapes, batch_size, dtype, device)


def _count_head(
    head: nn.Module,
    shapes: tuple[tuple[int, ...], ...],
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[HeadCost, tuple[bool, ...]]:
    with torch.device(device):
        hidden = [torch.empty(batch_size, *s, dtype=dtype, requires_grad=True) for s in shapes]
    numbers = [storage_number(x) for x in hidden]
    ledger = Ledger(head)
    with ledger.open():
        head(*hidden)
    saved = ledger.saved.get("", {})
    own = sum(size for number, size in saved.items() if number not in numbers)
    parameters = sum(p.numel() for p in head.parameters())
    cost = HeadCost(parameters, ledger.flops.get("", 0) // batch_size, own)
    return cost, tuple(number in saved for number in numbers)


def device_to_count_for(model: nn.Module) -> torch.device:
    """The device of a model's first parameter; the CPU for one on the meta device."""
    first = next(model.parameters(), None)
    if first is None or first.device.type == "meta":
        return torch.device("cpu")
    return first.device


def storage_number(tensor: torch.Tensor) -> int:
    """An arbitrary number of a tensor's storage, its own as long as the tensor lives."""
    number: int = tensor.untyped_storage()._cdata
    return number


def _value(tensor: torch.Tensor) -> Value:
    return storage_number(tensor), tensor._version
