"""Conditional optimal transport between two networks of one architecture (COT; THESIS 6.2).

A network is a family of measures, one for each layer: the neurons of a hidden layer are points,
each with equal mass, whose coordinates are all that belongs to the neuron. Mass is moved within
each layer only, so that the plan is the identity on depth. The distance is the root of the mean
over layers of the squared W₂ of each (arXiv 2403.12887, section 2.1).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from fxtransport.errors import UsageError
from fxtransport.ot.alignment import Alignment, align
from fxtransport.ot.symmetry import HiddenLayer, hidden_layers


@dataclass(frozen=True)
class LayerDistance:
    """How far one layer of two networks is apart.

    Attributes:
        path: The path of the module that computes the neurons, or that has the parameters.
        neurons: The number of neurons, or of heads; of parameters that belong to no hidden neuron,
            the size of their first dimension.
        hidden: Whether the neurons can change places.
        transport: W₂ between the neurons.
        l2: The same with every neuron in its place: the root of the mean of squares.
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
    """

    layers: tuple[LayerDistance, ...]
    aligned: Mapping[str, Tensor] = field(repr=False)
    sweeps: int

    @property
    def transport(self) -> float:
        """The conditional OT distance: the root of the mean over layers of squared W₂."""
        return _root_mean_square([layer.transport for layer in self.layers])

    @property
    def l2(self) -> float:
        """The layer-wise L2 distance, which depends on the order of neurons."""
        return _root_mean_square([layer.l2 for layer in self.layers])


def conditional_distance(
    network: nn.Module,
    inputs: Tensor | tuple[Tensor, ...],
    other: nn.Module | Mapping[str, Tensor],
    *,
    keep: Collection[str] = (),
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
        sweeps: The largest number of times that all layers are aligned.

    Raises:
        UsageError: the two have not the same parameters.
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
    return state_distance(layers, network.state_dict(), _state_of(other), sweeps=sweeps)


def state_distance(
    layers: tuple[HiddenLayer, ...],
    state: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    *,
    sweeps: int = 10,
) -> ConditionalDistance:
    """As :func:`conditional_distance`, between two states of a network whose layers are known.

    Args:
        layers: What :func:`fxtransport.ot.symmetry.hidden_layers` found.
        state: A state of the network.
        other: Another one.
        sweeps: As there.

    Raises:
        UsageError: the states are not of one network.
    """
    one, two = _floating(state), _floating(other)
    _check_alike(one, two)
    found = align(layers, one, two, sweeps=sweeps)
    distances = [_of_neurons(layer, number, one, two, found) for number, layer in enumerate(layers)]
    aligned = {name: found.state.get(name, tensor) for name, tensor in other.items()}
    return ConditionalDistance(
        (*distances, *_of_rest(layers, one, two)),
        {name: tensor.to(other[name].dtype) for name, tensor in aligned.items()},
        found.sweeps,
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
) -> LayerDistance:
    return LayerDistance(
        path=layer.path,
        neurons=layer.neurons,
        hidden=True,
        transport=_apart(layer, one, found.state),
        l2=_apart(layer, one, two),
        moved=found.moved[number],
    )


def _apart(layer: HiddenLayer, one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    """The root of the mean over neurons of ‖a - b‖², each in its place."""
    total = 0.0
    for slot in (slot for family in layer.families for slot in family.slots):
        index = slot.index.flatten()
        difference = (one[slot.name] - two[slot.name]).index_select(slot.dim, index)
        total += float(difference.square().sum())
    return math.sqrt(total / layer.neurons)


def _of_rest(
    layers: tuple[HiddenLayer, ...], one: Mapping[str, Tensor], two: Mapping[str, Tensor]
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
        squares = sum(float((one[name] - two[name]).square().sum()) for name in names)
        apart = math.sqrt(squares / max(rows, 1))
        found.append(LayerDistance(path, rows, False, apart, apart, 0.0))
    return found


def _root_mean_square(values: list[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / max(len(values), 1))
