"""What products do to labels: matrices, attention, convolutions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fxtransport.ot.symmetry.labels import (
    Labeled,
    blocks_over,
    finest,
    joined,
    nest,
    refresh,
    varying,
)
from fxtransport.ot.symmetry.units import Ids, Units


def product(units: Units, one: Labeled, other: Labeled) -> list[Ids]:
    """The labels of a matrix product, …×m×k by …×k×n.

    What is summed over are units of both: row and column k of a weight belong to neuron k.
    """
    last = one.value.dim() - 1
    transposed = [label.swapaxes(-1, -2) for label in other.labels]
    mine, passed = _apart(one.labels, last)
    its, also_passed = _apart(transposed, last)
    blocks = _meet(units, mine, its, last, {last - 1})
    _keep_apart(units, passed, other, also_passed)
    _keep_apart(units, also_passed, one, passed)
    return [*passed, *(label.swapaxes(-1, -2) for label in also_passed), *blocks]


def _keep_apart(units: Units, labels: list[Ids], other: Labeled, its: list[Ids]) -> None:
    """Keep units in their matrix, where each matrix is multiplied by another one.

    Args:
        units: The units.
        labels: Of one operand, none of which changes along the sum.
        other: The other operand.
        its: Its labels that do not change along the sum.
    """
    batch = frozenset(d for d, size in enumerate(other.shape[:-2]) if size > 1)
    for label in labels:
        dims = varying(label) & batch
        if not dims:
            continue
        partners = [each for each in its if varying(each) & batch == dims]
        blocks = next((each for each in partners if varying(each) == dims), None)
        if blocks is None and varying(label) == dims and partners:
            # the finer one is put inside this one
            continue
        if blocks is None:
            blocks = blocks_over(units, label, varying(label) - dims)
            for finer in partners:
                nest(units, finer, blocks) if blocks is not None else units.fix(finer)
            if not partners and blocks is not None:
                units.pinned |= set(np.unique(blocks).tolist())
        elif varying(label) == dims:
            units.unite(*np.broadcast_arrays(label, blocks))
        else:
            nest(units, label, blocks)


def attention(
    units: Units, query: Labeled, key: Labeled, value: Labeled, bias: Labeled | None = None
) -> list[Ids]:
    """The labels of softmax(QKᵀ + bias)V; all are …×positions×width."""
    swapped = replace(
        key,
        value=key.value.transpose(-1, -2),
        labels=tuple(label.swapaxes(-1, -2) for label in key.labels),
    )
    shape = (*query.shape[:-1], key.shape[-2])
    scores = Labeled(torch.empty(shape, device="meta"), depends=True)
    scores = refresh(units, scores.with_labels(product(units, query, swapped)))
    if bias is not None:
        found = joined(units, scores, bias, len(shape), is_sum=True)
        scores = refresh(units, scores.with_labels(found))
    return product(units, scores, refresh(units, value))


def convolution(
    units: Units, x: Labeled, weight: Labeled, groups: int, *, is_transposed: bool
) -> list[Ids]:
    """The labels of a convolution, B×C×…, without its bias."""
    if is_transposed:
        weight = replace(
            weight,
            value=weight.value.transpose(0, 1),
            labels=tuple(label.swapaxes(0, 1) for label in weight.labels),
        )
    inputs, passed = _apart(x.labels, 1)
    columns, rest = _apart(weight.labels, 1)
    rows, kernel = _apart(rest, 0)
    # positions of images and of kernels cannot be reordered
    for label in (*kernel, *passed):
        units.fix(label)
    outputs = [row.swapaxes(0, 1) for row in rows]
    depthwise = weight.shape[1] == 1 and weight.shape[0] == groups
    if groups == 1:
        blocks = _meet(units, inputs, columns, 1, set(range(x.value.dim())) - {0, 1})
        return [*outputs, *blocks]
    if not depthwise or is_transposed:
        # channels of groups keep their order
        for label in (*inputs, *columns, *outputs):
            units.fix(label)
        return []
    if inputs and outputs and varying(finest(inputs)) == {1}:
        units.unite(*np.broadcast_arrays(finest(inputs), finest(outputs)))
        return [finest(inputs)]
    for label in (*inputs, *outputs):
        units.fix(label)
    return []


def _apart(labels: Sequence[Ids], dim: int) -> tuple[list[Ids], list[Ids]]:
    """Those that change along a dimension, and the others."""
    changing = [label for label in labels if dim in varying(label)]
    return changing, [label for label in labels if dim not in varying(label)]


def _meet(units: Units, mine: list[Ids], its: list[Ids], over: int, others: set[int]) -> list[Ids]:
    """Unite the units over which two operands are summed; returns the label of blocks, if any.

    Args:
        units: The units.
        mine: The labels of one operand that change along the sum.
        its: Those of the other.
        over: The dimension of the sum.
        others: Dimensions that only one of the two has; units may not depend on them.
    """
    fine = [finest(labels) for labels in (mine, its) if labels]
    if len(fine) < 2 or any(varying(label) & others for label in fine):
        # what is summed with it has a fixed order
        for label in (*mine, *its):
            units.fix(label)
        return []
    for own, labels in zip(fine, (mine, its), strict=True):
        for coarse in labels:
            if coarse is not own:
                nest(units, own, coarse)
    one, other = np.broadcast_arrays(*fine)
    units.unite(one, other)
    blocks = blocks_over(units, one, frozenset({over}))
    return [] if blocks is None else [blocks]


def normalized_over(units: Units, x: Labeled, dims: frozenset[int]) -> None:
    """Note that numbers are normalized over dimensions, apart along all others."""
    over = [label for label in x.labels if varying(label) & dims]
    if over:
        fine = finest(over)
        for coarse in over:
            if coarse is not fine:
                nest(units, fine, coarse)
        blocks_over(units, fine, dims)


def at_channels(vector: Any, ndim: int, x: Labeled) -> Labeled:
    """A vector of channels as a tensor that broadcasts over B×C×…."""
    shape = (1, -1, *(1,) * (ndim - 2))
    if not isinstance(vector, Labeled):
        return Labeled(torch.zeros((1,) * ndim), depends=x.depends)
    labels = [label.reshape(shape) for label in vector.labels]
    return replace(vector, value=vector.value.reshape(shape), labels=tuple(labels))
