"""The hidden layers of a network: groups of neurons that can change places.

A neuron owns its incoming weights, its bias, its numbers in norms, running statistics included, and
its outgoing weights. Two networks in which the neurons of a layer stand in another order compute
the same function. The residual stream, the input and the output are not reordered.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from fxtransport.errors import VerificationError
from fxtransport.ot.symmetry.follow import follow, largest_difference
from fxtransport.ot.symmetry.units import FIXED, Place, Units

TOLERANCE = 1e-3
"""How far outputs may be from one another, relative to the largest."""
Order = Tensor
"""Of each place in a family, the place whose numbers come there: int64, blocks×width."""


@dataclass(frozen=True)
class Slot:
    """The places of a family in one dimension of one parameter or buffer.

    Attributes:
        name: The parameter or buffer.
        dim: The dimension.
        index: Blocks×width, int64.
    """

    name: str
    dim: int
    index: Tensor


@dataclass(frozen=True)
class Family:
    """Units that can change places: within their block, and with their block.

    Attributes:
        slots: What each owns; all of one shape, blocks×width.
    """

    slots: tuple[Slot, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks, and units in each."""
        blocks, width = self.slots[0].index.shape
        return blocks, width


@dataclass(frozen=True)
class HiddenLayer:
    """Neurons that can change places with one another.

    Attributes:
        path: The path of the module that computes them.
        families: One for plain neurons, which are blocks of width 1. The blocks of an attention
            layer are its heads, and its families the rows of queries with those of keys, and the
            rows of values with the columns of the projection.
        ordered: Whether the blocks themselves keep their order.
    """

    path: str
    families: tuple[Family, ...]
    ordered: bool = False

    @property
    def neurons(self) -> int:
        """The number of neurons, or of heads."""
        return self.families[0].shape[0]

    @property
    def owned(self) -> frozenset[tuple[str, int]]:
        """The parameters and buffers that the neurons own, with dimensions."""
        return frozenset((slot.name, slot.dim) for own in self.families for slot in own.slots)


def hidden_layers(
    network: nn.Module, inputs: Tensor | tuple[Tensor, ...], *, keep: Collection[str] = ()
) -> tuple[HiddenLayer, ...]:
    """Find the hidden layers of a network, in the order in which they compute.

    The operations of one forward in eval mode are followed element by element, so it does not
    matter how the network is written. What is not known to be a symmetry keeps its order: the
    channels of grouped convolutions, queries and keys with rotary embeddings, and whatever an
    unknown operation reads.

    Args:
        network: Any module, or a program.
        inputs: What it is given, on its device.
        keep: The paths of layers whose neurons keep their order, and are left out.

    Raises:
        VerificationError: neurons that were put in another order changed what is computed.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> [(layer.path, layer.neurons) for layer in hidden_layers(net, torch.zeros(1, 3))]
    [('0', 8), ('2', 5)]
    """
    found = _Grouping(follow(network, inputs)).layers()
    layers = tuple(layer for layer in found if layer.path not in keep)
    check_layers(network, inputs, layers)
    return layers


def permuted(
    state: Mapping[str, Tensor], layer: HiddenLayer, orders: tuple[Order, ...]
) -> dict[str, Tensor]:
    """A network's state with the neurons of one layer in another order.

    Args:
        state: The state; it is not changed.
        layer: The layer.
        orders: For each family, which place each place takes its numbers from: the flat index
            of blocks×width.
    """
    found = dict(state)
    for family, order in zip(layer.families, orders, strict=True):
        for slot in family.slots:
            tensor = found[slot.name]
            to = slot.index.flatten().to(tensor.device)
            source = to[order.flatten().to(tensor.device)]
            changed = tensor.clone()
            changed.index_copy_(slot.dim, to, tensor.index_select(slot.dim, source))
            found[slot.name] = changed
    return found


def check_layers(
    network: nn.Module, inputs: Tensor | tuple[Tensor, ...], layers: Sequence[HiddenLayer]
) -> None:
    """See that a network computes the same with its neurons in a random order.

    Raises:
        VerificationError: it does not.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    orders = [random_orders(layer, generator) for layer in layers]

    def error(chosen: Sequence[int]) -> float:
        other = state
        for k in chosen:
            other = permuted(other, layers[k], orders[k])
        return largest_difference(network, state, other, given)

    if error(range(len(layers))) <= TOLERANCE:
        return
    wrong = [layer.path for k, layer in enumerate(layers) if error([k]) > TOLERANCE]
    names = ", ".join(wrong) or "several layers together"
    raise VerificationError(
        f"reordering the neurons of {names} changes what the network computes: leave them in "
        f"their order, keep={wrong or [layer.path for layer in layers]}"
    )


def random_orders(layer: HiddenLayer, generator: torch.Generator) -> tuple[Order, ...]:
    """A random order of a layer's neurons, and of what is in its blocks."""
    count = layer.neurons
    blocks = torch.arange(count)
    if not layer.ordered:
        blocks = torch.randperm(count, generator=generator)
    orders = []
    for family in layer.families:
        width = family.shape[1]
        inner = [torch.randperm(width, generator=generator) for _ in range(count)]
        orders.append(blocks[:, None] * width + torch.stack(inner))
    return tuple(orders)


Signature = tuple[tuple[str, int, int], ...]
"""The parameters and dimensions that a unit has places in, with their colors."""


class _Grouping:
    """Makes layers of units.

    Args:
        units: What was found out of a network.
    """

    def __init__(self, units: Units) -> None:
        self._units = units
        self._members: dict[int, list[int]] = defaultdict(list)
        for unit in units.places:
            self._members[units.root(unit)].append(unit)
        self._inside: dict[int, int] = {}
        # units in a block whose own place is fixed may still change places within it
        self._pinned = {units.root(block) for block in units.pinned}
        for unit, block in units.inside.items():
            root, own = units.root(unit), units.root(block)
            if root == FIXED:
                self._pinned.add(own)
            elif self._inside.setdefault(root, own) != own:
                self._pinned |= {own, self._inside[root]}
        self._blocks = {*self._inside.values()} - {FIXED}

    def layers(self) -> list[HiddenLayer]:
        plain: dict[Signature, list[int]] = defaultdict(list)
        blocks: dict[int, dict[Signature, list[int]]] = defaultdict(lambda: defaultdict(list))
        for root, members in self._members.items():
            # what is in one place only is not used, or is an end of the network
            if root == FIXED or self._inside.get(root) == FIXED:
                continue
            signature = self._signature(members)
            if root in self._blocks:
                # what a block owns as a whole, such as the position bias of a head
                blocks[root][signature].append(root)
            elif len(members) < 2:
                continue
            elif root in self._inside:
                blocks[self._inside[root]][signature].append(root)
            else:
                plain[signature].append(root)
        found = [self._plain(roots) for roots in plain.values() if len(roots) > 1]
        return sorted([*found, *self._of_blocks(blocks)], key=self._first)

    def _of_blocks(self, blocks: dict[int, dict[Signature, list[int]]]) -> list[HiddenLayer]:
        alike: dict[tuple[object, bool], list[int]] = defaultdict(list)
        for block, families in blocks.items():
            shape = tuple(sorted((signature, len(roots)) for signature, roots in families.items()))
            alike[(shape, block in self._pinned)].append(block)
        found = []
        for (_, pinned), same in alike.items():
            same.sort(key=lambda block: min(map(self._order, chain(*blocks[block].values()))))
            own = tuple(
                self._family([blocks[block][signature] for block in same])
                for signature in sorted(blocks[same[0]])
            )
            found.append(HiddenLayer(self._path(own), own, ordered=pinned))
        return found

    def _plain(self, roots: list[int]) -> HiddenLayer:
        family = self._family([[root] for root in sorted(roots, key=self._order)])
        return HiddenLayer(self._path((family,)), (family,))

    def _family(self, rows: list[list[int]]) -> Family:
        """A family of units, a block in each row."""
        columns = [[self._ordered(root) for root in sorted(row, key=self._order)] for row in rows]
        slots = []
        for k, place in enumerate(columns[0][0]):
            index = torch.tensor([[own[k].index for own in row] for row in columns])
            slots.append(Slot(place.name, place.dim, index))
        return Family(tuple(slots))

    def _order(self, root: int) -> int:
        return min(self._members[root])

    def _ordered(self, root: int) -> list[Place]:
        """The places of a unit: in each parameter by color and index."""
        units = self._units
        keyed = sorted(
            (
                units.places[u].name,
                units.places[u].dim,
                units.colors.get(u, 0),
                units.places[u].index,
                u,
            )
            for u in self._members[root]
        )
        return [units.places[unit] for *_, unit in keyed]

    def _signature(self, members: list[int]) -> Signature:
        places, colors = self._units.places, self._units.colors
        return tuple(sorted((places[u].name, places[u].dim, colors.get(u, 0)) for u in members))

    def _path(self, families: tuple[Family, ...]) -> str:
        """The module whose parameter is read first."""
        names = [slot.name for own in families for slot in own.slots]
        return min(names, key=self._units.uses.__getitem__).rpartition(".")[0]

    def _first(self, layer: HiddenLayer) -> int:
        return min(self._units.uses[name] for name, _ in layer.owned)
