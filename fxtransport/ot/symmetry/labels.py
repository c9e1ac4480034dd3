"""Labels: to which unit each element of a tensor belongs, and what operations do to them.

A label is an int64 array with as many dimensions as its tensor; a dimension along which the unit
does not change has size 1. A tensor has a label for each of its axes of units: that of a weight
has two, that of a hidden activation one. Along dimensions without a label, the order is fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from torch import Tensor

from fxtransport.ot.symmetry.units import FIXED, Ids, Units


@dataclass(frozen=True)
class Labeled:
    """A tensor with its labels.

    Attributes:
        value: The tensor.
        labels: Its labels.
        depends: Whether it depends on the input of the network.
        owned: Whether it depends on a parameter or buffer.
    """

    value: Tensor
    labels: tuple[Ids, ...] = ()
    depends: bool = False
    owned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(self.value.shape)

    def with_labels(self, labels: Sequence[Ids]) -> Self:
        """The same tensor with other labels."""
        return replace(self, labels=tuple(labels))


def varying(label: Ids) -> frozenset[int]:
    """The dimensions along which a label changes."""
    return frozenset(d for d, size in enumerate(label.shape) if size > 1)


def squeezed(units: Units, label: Ids) -> Ids:
    """The label with canonical units, and size 1 along dimensions in which it does not change."""
    for dim, stride in enumerate(label.strides):
        if label.shape[dim] > 1 and stride == 0:
            label = label[(slice(None),) * dim + (slice(0, 1),)]
    label = units.canonical(np.ascontiguousarray(label))
    for dim in range(label.ndim):
        first = label[(slice(None),) * dim + (slice(0, 1),)]
        if label.shape[dim] > 1 and (label == first).all():
            label = first
    return label


def refresh(units: Units, found: Labeled) -> Labeled:
    """The same tensor with canonical labels, without those whose units are all fixed."""
    labels = [squeezed(units, label) for label in found.labels]
    return found.with_labels([label for label in labels if (label != FIXED).any()])


def fix(units: Units, *tensors: Labeled) -> None:
    """Fix the order of all units of tensors."""
    for tensor in tensors:
        for label in tensor.labels:
            units.fix(label)


def with_dimensions(label: Ids, count: int) -> Ids:
    """The label with leading dimensions of size 1, as broadcasting adds them."""
    return label.reshape((1,) * (count - label.ndim) + label.shape)


def finest(labels: Sequence[Ids]) -> Ids:
    """The label with the most units."""
    return max(labels, key=lambda label: len(np.unique(label)))


def nest(units: Units, fine: Ids, coarse: Ids) -> None:
    """Note that the units of one label are inside those of another, its blocks."""
    fine, coarse = np.broadcast_arrays(fine, coarse)
    units.put_inside(fine, coarse)


def blocks_over(units: Units, label: Ids, dims: frozenset[int]) -> Ids | None:
    """Blocks, where what is computed over some dimensions is computed apart along others.

    A sum over the width of each attention head may exchange heads, and what is in a head, but
    not what is in two heads.

    Args:
        units: The units.
        label: A label that changes along some of the dimensions.
        dims: The dimensions over which something is computed.

    Returns:
        The label of blocks, of size 1 along ``dims``; None if there is one block only.
    """
    label = squeezed(units, label)
    kept = [d for d in range(label.ndim) if d not in dims]
    if not any(label.shape[d] > 1 for d in kept):
        return None
    order = [*kept, *sorted(dims)]
    rows = label.transpose(order).reshape(int(np.prod([label.shape[d] for d in kept])), -1)
    sets = [tuple(np.unique(row).tolist()) for row in rows]
    distinct = list(dict.fromkeys(sets))
    members = [unit for each in distinct for unit in each]
    if len(set(members)) < len(members):
        # rows that share some units but not all are nothing that can be exchanged
        units.fix(label)
        return None
    ids = dict(zip(distinct, units.new(len(distinct)).tolist(), strict=True))
    found = np.array([ids[each] for each in sets], dtype=np.int64)
    found = found.reshape([label.shape[d] if d not in dims else 1 for d in range(label.ndim)])
    nest(units, label, found)
    return units.canonical(found)


def reduced(units: Units, labels: Sequence[Ids], dims: frozenset[int]) -> list[Ids]:
    """The labels of what is computed over dimensions in a way that does not depend on order.

    All keep their dimensions, of which ``dims`` have size 1.
    """
    over = [label for label in labels if varying(label) & dims]
    found = [label for label in labels if not varying(label) & dims]
    if not over:
        return found
    fine = finest(over)
    for coarse in over:
        if coarse is not fine:
            nest(units, fine, coarse)
    blocks = blocks_over(units, fine, dims)
    return found if blocks is None else [*found, blocks]


def joined(
    units: Units, one: Labeled, other: Labeled, ndim: int, *, is_sum: bool = False
) -> list[Ids]:
    """The labels of what is computed of two tensors, element by element.

    Args:
        units: The units.
        one: A tensor.
        other: A tensor.
        ndim: The number of dimensions of the result.
        is_sum: Whether it is a sum: then different units that are added fix one another, for
            what is added to by several branches is a residual stream.
    """
    ours = [with_dimensions(label, ndim) for label in one.labels]
    theirs = [with_dimensions(label, ndim) for label in other.labels]
    found: list[Ids] = []
    for dims in dict.fromkeys(varying(label) for label in (*ours, *theirs)):
        mine = [label for label in ours if varying(label) == dims]
        its = [label for label in theirs if varying(label) == dims]
        if mine and its:
            _match(units, finest(mine), finest(its), fixes=is_sum and one.depends & other.depends)
        elif mine:
            _lone(units, finest(mine), dims, other, theirs, ndim)
        else:
            _lone(units, finest(its), dims, one, ours, ndim)
        found += mine or its
    return found


def _match(units: Units, mine: Ids, its: Ids, *, fixes: bool) -> None:
    mine, its = np.broadcast_arrays(mine, its)
    differ = (units.canonical(mine) != units.canonical(its)).any()
    units.unite(mine, its)
    if fixes and differ:
        units.fix(mine)


def _lone(
    units: Units, label: Ids, dims: frozenset[int], other: Labeled, labels: list[Ids], ndim: int
) -> None:
    """A label that the other tensor does not have."""
    shape = (1,) * (ndim - other.value.dim()) + other.shape
    along = {d for d in dims if shape[d] > 1}
    if not along:
        return
    finer = [each for each in labels if varying(each) > dims]
    if finer:
        nest(units, finest(finer), label)
    elif not _is_constant(other, shape, along):
        units.fix(label)


def _is_constant(other: Labeled, shape: tuple[int, ...], along: set[int]) -> bool:
    """Whether a tensor that nobody trains has the same numbers along dimensions."""
    if other.depends or other.owned or other.value.is_meta:
        return False
    value = other.value.reshape(shape)
    first = value
    for dim in along:
        first = first.narrow(dim, 0, 1)
    return bool((value == first).all())
