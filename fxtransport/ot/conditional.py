"""Conditional optimal transport between two networks of one architecture (COT; THESIS 6.2).

A network is a family of measures, one for each layer: the neurons of a hidden layer are points,
each with equal mass, whose coordinates are all that belongs to the neuron. Mass is moved within
each layer only, so that the plan is the identity on depth. The distance is the root of the mean
over layers of the squared W₂ of each (arXiv 2403.12887, section 2.1); of W_p^p for other p ≥ 1.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.ot.alignment import Alignment, align, moving_cost
from fxtransport.ot.costs import check_power, power_of_square
from fxtransport.ot.symmetry import HiddenLayer, hidden_layers


@dataclass(frozen=True)
class LayerDistance:
    """How far one layer of two networks is apart.

    Attributes:
        path: The path of the module that computes the neurons, or that has the parameters.
        neurons: The number of neurons, or of heads; of parameters that belong to no hidden neuron,
            the size of their first dimension.
        hidden: Whether the neurons can change places.
        transport: W_p between the neurons, p = 2 by default. Of heads, ‖·‖ is the p-norm of the
            Euclidean norms of their rows.
        l2: The same with every neuron in its place: for p = 2, the root of the mean of squares.
        moved: The share of neurons that have another place in the other network.
    """

    path: str
    neurons: int
    hidden: bool
    transport: float
    l2: float
    moved: float


@dataclass(frozen=True)
class ConditionalDistance:
    """How far two networks of one architecture are apart.

    Attributes:
        layers: The hidden layers in the order in which they compute, then the parameters that
            belong to no hidden neuron, those of each module together.
        aligned: The state of the second network, its neurons in the order of the first's.
        sweeps: How often all layers were aligned before nothing changed.
        p: The power of the distance between neurons.
    """

    layers: tuple[LayerDistance, ...]
    aligned: Mapping[str, Tensor] = field(repr=False)
    sweeps: int
    p: float = 2.0

    @property
    def transport(self) -> float:
        """The conditional OT distance: the p-th root of the mean over layers of W_p^p."""
        return _power_mean([layer.transport for layer in self.layers], self.p)

    @property
    def l2(self) -> float:
        """The layer-wise distance, L2 for p = 2, which depends on the order of neurons."""
        return _power_mean([layer.l2 for layer in self.layers], self.p)


def conditional_distance(
    network: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    other: nn.Module | Mapping[str, Tensor],
    *,
    keep: Collection[str] = (),
    p: float = 2.0,
    sweeps: int = 10,
) -> ConditionalDistance:
    """The conditional OT distance between two networks of one architecture.

    It is invariant to the order of the neurons of hidden layers: 0 between a network and a copy
    whose neurons stand in another order. The residual stream is fixed. Layers that share weights
    are aligned one after the other, from the input to the output, and again until nothing changes.
    A single hidden layer, as in a residual branch, is solved exactly; of several that follow one
    another without a residual stream between them, the distance is an upper bound.

    Args:
        network: A module or program.
        inputs: What it is given; shapes matter, numbers do not.
        other: Another of the same architecture, or its state.
        keep: The paths of hidden layers whose neurons keep their order.
        p: The power of the distance between neurons, at least 1.
        sweeps: The largest number of times that all layers are aligned.

    Raises:
        UsageError: the two have not the same parameters, or p is not valid.
        VerificationError: neurons that were put in another order changed what is computed.

    >>> import torch
    >>> from torch import nn
    >>> from fxtransport.ot.symmetry import permuted
    >>> net, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), torch.zeros(1, 3)
    >>> [layer] = hidden_layers(net, x)
    >>> turned = permuted(net.state_dict(), layer, (torch.arange(8).flip(0)[:, None],))
    >>> found = conditional_distance(net, x, turned)
    >>> found.transport, found.l2 > 0.1
    (0.0, True)
    """
    layers = hidden_layers(network, inputs, keep=keep)
    return state_distance(layers, network.state_dict(), _state_of(other), p=p, sweeps=sweeps)


def state_distance(
    layers: tuple[HiddenLayer, ...],
    state: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    *,
    p: float = 2.0,
    sweeps: int = 10,
) -> ConditionalDistance:
    """As :func:`conditional_distance`, between two states of a network whose layers are known.

    Args:
        layers: What :func:`fxtransport.ot.symmetry.hidden_layers` found.
        state: A state of the network.
        other: Another one.
        p: As there.
        sweeps: As there.

    Raises:
        UsageError: the states are not of one network, or p is not valid.
    """
    check_power(p)
    one, two = _floating(state), _floating(other)
    _check_alike(one, two)
    found = align(layers, one, two, p=p, sweeps=sweeps)
    distances = [
        _of_neurons(layer, number, one, two, found, p) for number, layer in enumerate(layers)
    ]
    aligned = {name: found.state.get(name, tensor) for name, tensor in other.items()}
    return ConditionalDistance(
        (*distances, *_of_rest(layers, one, two, p)),
        {name: tensor.to(other[name].dtype) for name, tensor in aligned.items()},
        found.sweeps,
        p,
    )


def _state_of(other: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return other.state_dict() if isinstance(other, nn.Module) else other


def _floating(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters and buffers of real numbers, in float64."""
    return {
        name: tensor.detach().cpu().double()
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }


def _check_alike(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    if one.keys() != two.keys():
        differ = sorted(one.keys() ^ two.keys())
        raise UsageError(
            f"networks of two architectures have no conditional distance: only one has "
            f"{', '.join(differ[:5])}"
        )
    for name, tensor in one.items():
        if tensor.shape != two[name].shape:
            raise UsageError(
                f"networks of two architectures have no conditional distance: {name} is "
                f"{tuple(tensor.shape)} and {tuple(two[name].shape)}"
            )
        if not (tensor.isfinite().all() and two[name].isfinite().all()):
            raise UsageError(f"{name} holds numbers that are not finite")


def _of_neurons(
    layer: HiddenLayer,
    number: int,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    found: Alignment,
    p: float,
) -> LayerDistance:
    return LayerDistance(
        path=layer.path,
        neurons=layer.neurons,
        hidden=True,
        transport=_apart(layer, one, found.state, p),
        l2=_apart(layer, one, two, p),
        moved=found.moved[number],
    )


def _apart(
    layer: HiddenLayer, one: Mapping[str, Tensor], two: Mapping[str, Tensor], p: float
) -> float:
    """The p-th root of the mean over neurons of ‖a - b‖^p, each in its place."""
    return float((moving_cost(layer, one, two, p) / layer.neurons) ** (1 / p))


def _of_rest(
    layers: tuple[HiddenLayer, ...],
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    p: float,
) -> list[LayerDistance]:
    """The parameters and buffers of which no hidden neuron owns anything, by module."""
    owned = {name for layer in layers for name, _ in layer.owned}
    modules: dict[str, list[str]] = {}
    for name in one:
        if name not in owned:
            modules.setdefault(name.rpartition(".")[0], []).append(name)
    found = []
    for path, names in modules.items():
        rows = max(len(one[name]) if one[name].dim() else 1 for name in names)
        squares = torch.zeros(max(rows, 1), dtype=torch.float64)
        for name in names:
            own = torch.atleast_1d(one[name] - two[name]).square()
            squares[: len(own)] += own.flatten(1).sum(1) if own.dim() > 1 else own
        apart = float(power_of_square(squares, p).mean()) ** (1 / p)
        found.append(LayerDistance(path, rows, False, apart, apart, 0.0))
    return found


def _power_mean(values: list[float], p: float) -> float:
    return float((sum(value**p for value in values) / max(len(values), 1)) ** (1 / p))
