"""Follow the units of a network through one forward."""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from fxtransport.ot.symmetry.call import Call, tensors_in
from fxtransport.ot.symmetry.labels import Labeled, fix, refresh
from fxtransport.ot.symmetry.rules import labeled_output
from fxtransport.ot.symmetry.units import Ids, Units


def follow(network: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> Units:
    """Which units of a network can only be reordered together.

    Args:
        network: The network; its modes are as before afterwards.
        inputs: What it is given.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    state = {name: tensor.detach() for name, tensor in network.state_dict(keep_vars=True).items()}
    graph = _operations(network, state, given)
    return _Following(Units(), state).run(graph, given)


def _operations(
    network: nn.Module, state: dict[str, Tensor], given: tuple[Tensor, ...]
) -> fx.GraphModule:
    """The operations of ATen of one forward in eval mode, none of which writes into a tensor."""

    def forward(state: dict[str, Tensor], given: tuple[Tensor, ...]) -> Any:
        return functional_call(network, state, given)

    with _evaluating(network):
        return make_fx(functionalize(forward, remove="mutations"))(state, given)


def largest_difference(
    network: nn.Module,
    state: dict[str, Tensor],
    other: dict[str, Tensor],
    given: tuple[Tensor, ...],
) -> float:
    """How far what a network returns with two states differs, relative to the largest number."""
    with _evaluating(network):
        one = _tensors(functional_call(network, state, given))
        two = _tensors(functional_call(network, other, given))
    found = 0.0
    for x, y in zip(one, two, strict=True):
        scale = float(x.abs().max()) or 1.0
        found = max(found, float((x - y).abs().max()) / scale)
    return found


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode, without gradients, and without fused layers that hide their operations."""
    before = [(module, module.training) for module in network.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    network.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in before:
            module.training = training


def _tensors(returned: Any) -> list[Tensor]:
    return [leaf for leaf in _leaves(returned) if isinstance(leaf, Tensor)]


class _Following:
    """Runs a graph of operations, with labels beside the numbers.

    Args:
        units: Where what is found is noted.
        state: The network's parameters and buffers.
    """

    def __init__(self, units: Units, state: dict[str, Tensor]) -> None:
        self._units = units
        self._state = state
        self._found: dict[fx.Node, Any] = {}

    def run(self, graph: fx.GraphModule, given: tuple[Tensor, ...]) -> Units:
        """Run the graph."""
        names = iter(self._state)
        others = iter(given)
        last = _last_uses(graph.graph)
        numbers = {node: number for number, node in enumerate(graph.graph.nodes)}
        with torch.no_grad():
            for number, node in enumerate(graph.graph.nodes):
                if node.op == "placeholder":
                    name = next(names, None)
                    self._found[node] = (
                        Labeled(next(others), depends=True) if name is None else self._owned(name)
                    )
                    if name is not None and node.users:
                        self._units.uses[name] = min(numbers[user] for user in node.users)
                else:
                    self._found[node] = self._run(graph, node)
                for done in last.get(number, ()):
                    del self._found[done]
        return self._units

    def _run(self, graph: fx.GraphModule, node: fx.Node) -> Any:
        found: Any = fx.node.map_arg((node.args, node.kwargs), self._found.__getitem__)
        args, kwargs = found
        if node.op == "get_attr":
            return Labeled(getattr(graph, str(node.target)))
        if node.op == "output":
            fix(self._units, *tensors_in(*_leaves(args)))
            return None
        if node.target is operator.getitem:
            return args[0][args[1]]
        values: Any = fx.node.map_aggregate(found, _value)
        assert callable(node.target)
        returned = node.target(*values[0], **values[1])
        labeled: Any = fx.node.map_aggregate(found, self._refreshed)
        args, kwargs = labeled
        return labeled_output(Call(self._units, node.target, args, kwargs, returned))

    def _owned(self, name: str) -> Labeled:
        """A parameter or buffer, with a label for each of its dimensions."""
        tensor = self._state[name]
        labels: list[Ids] = []
        if tensor.is_floating_point():
            for dim, size in enumerate(tensor.shape):
                if size > 1:
                    shape = [1] * tensor.dim()
                    shape[dim] = size
                    labels.append(self._units.of_dimension(name, dim, size).reshape(shape))
        return Labeled(tensor, tuple(labels), owned=True)

    def _refreshed(self, value: Any) -> Any:
        return refresh(self._units, value) if isinstance(value, Labeled) else value


def _value(found: Any) -> Any:
    return found.value if isinstance(found, Labeled) else found


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]


def _last_uses(graph: fx.Graph) -> dict[int, list[fx.Node]]:
    """The nodes that no later node reads, by the number of the last that does."""
    last: dict[fx.Node, int] = {}
    for number, node in enumerate(graph.nodes):
        for read in (*node.all_input_nodes, node):
            last[read] = number
    found: dict[int, list[fx.Node]] = {}
    for node, number in last.items():
        found.setdefault(number, []).append(node)
    return found
