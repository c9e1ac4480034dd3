"""Put the neurons of a network in the order of another's: layer by layer, from the input on."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fxtransport.ot.costs import power_of_square
from fxtransport.ot.solvers import assignment
from fxtransport.ot.symmetry.layers import Family, HiddenLayer, Order, Slot, permuted

_ENOUGH = 1e-12
"""A layer is only reordered again if that lowers its cost by more than this share."""


@dataclass(frozen=True)
class Alignment:
    """A network whose neurons were put in the order of another's.

    Attributes:
        state: Its state, in that order.
        moved: For each layer, the share of neurons whose place changed.
        sweeps: How often all layers were aligned.
    """

    state: dict[str, Tensor]
    moved: tuple[float, ...]
    sweeps: int


def align(
    layers: Sequence[HiddenLayer],
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    *,
    p: float = 2.0,
    sweeps: int = 10,
) -> Alignment:
    """Put the neurons of the second network in the order of the first's.

    In the first sweep, weights between a layer and one that is not aligned yet are left out, since
    their order means nothing yet. Each later sweep lowers the sum of :func:`moving_cost` over
    layers, or is the last.

    Args:
        layers: The hidden layers, in the order in which they compute.
        one: The state of the first, float64.
        two: That of the second.
        p: The power of the distance between neurons, at least 1.
        sweeps: The largest number of sweeps.
    """
    state = dict(two)
    places = [torch.arange(layer.neurons) for layer in layers]
    waiting = {owned: number for number, layer in enumerate(layers) for owned in layer.owned}
    done = 0
    for sweep in range(max(1, sweeps)):
        changed = False
        for number, layer in enumerate(layers):
            left_out = (
                {owned for owned, at in waiting.items() if at >= number} if sweep == 0 else set()
            )
            orders = _best_orders(layer, one, state, left_out, p)
            if all(_is_identity(order) for order in orders):
                continue
            candidate = permuted(state, layer, orders)
            if sweep and p != 2 and not _is_nearer(layers, one, candidate, state, p):
                continue
            state = candidate
            places[number] = places[number][_blocks(layer, orders)]
            changed = True
        done = sweep + 1
        if sweep and not changed:
            break
    moved = tuple(float((at != torch.arange(len(at))).double().mean()) for at in places)
    return Alignment(state, moved, done)


def moving_cost(
    layer: HiddenLayer, one: Mapping[str, Tensor], two: Mapping[str, Tensor], p: float
) -> float:
    """The sum over the units of a layer of ‖a - b‖^p, each in its place.

    Args:
        layer: The layer.
        one: A state.
        two: Another.
        p: The power.
    """
    total = 0.0
    for family in layer.families:
        squares = torch.zeros(math.prod(family.shape), dtype=torch.float64)
        for slot in family.slots:
            squares += (_vectors(slot, one) - _vectors(slot, two)).square().sum(1)
        total += float(power_of_square(squares, p).sum())
    return total


def _is_nearer(
    layers: Sequence[HiddenLayer],
    one: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    p: float,
) -> bool:
    """Whether a state is nearer to the first network than the one before.

    A weight belongs to neurons of two layers. For p = 2 what a layer gains is gained as a whole;
    for other powers the neighbors may lose more.
    """
    after, own = (sum(moving_cost(x, one, state, p) for x in layers) for state in (found, before))
    return after < own * (1 - _ENOUGH)


def _is_identity(order: Order) -> bool:
    return bool((order.flatten() == torch.arange(order.numel())).all())


def _blocks(layer: HiddenLayer, orders: tuple[Order, ...]) -> Tensor:
    """Which block each block takes its numbers from."""
    width = layer.families[0].shape[1]
    return orders[0][:, 0] // width


def _best_orders(
    layer: HiddenLayer,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    left_out: set[tuple[str, int]],
    p: float,
) -> tuple[Order, ...]:
    """The order of the second network's neurons that is nearest to the first's."""
    found = [_inner(family, one, two, left_out, p) for family in layer.families]
    total = sum(costs for costs, _ in found)
    assert isinstance(total, np.ndarray)
    rows = np.arange(len(total))
    blocks = rows if layer.ordered or len(total) == 1 else _assign(total)
    orders = []
    for family, (_, inner) in zip(layer.families, found, strict=True):
        width = family.shape[1]
        own = inner[rows, blocks]
        orders.append(torch.from_numpy(blocks[:, None] * width + own))
    return tuple(orders)


def _inner(
    family: Family,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    left_out: set[tuple[str, int]],
    p: float,
) -> tuple["np.ndarray", "np.ndarray"]:
    """The least cost of each pair of blocks, and the order within them that it takes.

    Returns:
        Costs, blocks×blocks, and orders, blocks×blocks×width.
    """
    blocks, width = family.shape
    powers = _powers(family, one, two, left_out, p).reshape(blocks, width, blocks, width)
    if width == 1:
        return powers[:, 0, :, 0], np.zeros((blocks, blocks, 1), dtype=np.int64)
    costs = np.zeros((blocks, blocks))
    orders = np.zeros((blocks, blocks, width), dtype=np.int64)
    for i in range(blocks):
        for j in range(blocks):
            own = np.ascontiguousarray(powers[i, :, j])
            orders[i, j] = _assign(own)
            costs[i, j] = own[np.arange(width), orders[i, j]].sum()
    return costs, orders


def _assign(costs: "np.ndarray") -> "np.ndarray":
    """The columns of least cost; each row's own column unless that costs more."""
    columns = np.asarray(assignment(costs))
    rows = np.arange(len(costs))
    least, own = costs[rows, columns].sum(), np.trace(costs)
    return rows if own - least <= _ENOUGH * max(abs(own), 1e-300) else columns


def _powers(
    family: Family,
    one: Mapping[str, Tensor],
    two: Mapping[str, Tensor],
    left_out: set[tuple[str, int]],
    p: float,
) -> "np.ndarray":
    """‖a_i - b_j‖^p for all pairs of units of a family."""
    total: Tensor | None = None
    for slot in family.slots:
        a, b = _vectors(slot, one, left_out), _vectors(slot, two, left_out)
        if p == 2:
            norms = a.square().sum(1)[:, None] + b.square().sum(1)[None]
            found = (norms - 2 * a @ b.T).clamp_(min=0)
        else:
            # a power below 2 would make much of the rounding of a difference of squares
            found = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        total = found if total is None else total + found
    assert total is not None
    return power_of_square(total, p).numpy()


def _vectors(
    slot: Slot, state: Mapping[str, Tensor], left_out: Collection[tuple[str, int]] = ()
) -> Tensor:
    """What each unit owns in one parameter, units×numbers; zeros where it is not to be compared."""
    tensor = state[slot.name]
    chosen = tensor.index_select(slot.dim, slot.index.flatten()).movedim(slot.dim, 0)
    vectors = chosen.reshape(len(chosen), -1)
    others = {dim for name, dim in left_out if name == slot.name} - {slot.dim}
    return torch.zeros_like(vectors) if others else vectors
