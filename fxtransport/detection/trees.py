"""Random forests as arrays: checked once, and scored here, fast for one row and for many.

scikit-learn fits forests, but its own tree objects trust what they are given: a child's index out
of range ends the process. So a forest is kept as flat arrays that cannot run code, and every
property that the scoring relies on is checked when a :class:`Forest` is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.bitvectors import MOST_LEAVES, BitVectors, Nodes
from fxtransport.errors import UsageError

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Probabilities = NDArray[np.float64]

MOST_LEVELS = 128
"""The depth up to which trees are taken; each level costs every row some time."""
_TREES_AT_ONCE = 128
_STEPS_AT_ONCE = 1 << 15
_DROP_EVERY = 3
_FEW = 16
"""Rows up to which descending is faster than bit vectors."""
_MANY_COLUMNS = 48
"""Columns from which descending is faster than bit vectors, whose cost grows with them."""


@dataclass(frozen=True, eq=False)
class Forest:
    """T decision trees of V nodes in all, one tree after the other, roots first.

    A row x goes left at a node where ``x[feature] <= threshold``. Thresholds are rounded down to
    float32, which decides every float32 as scikit-learn's float64 thresholds do.

    Attributes:
        columns: The number of features F of a row.
        roots: The first node of each tree: T, int32, increasing, from 0.
        feature: The column that a node compares, -1 in a leaf: V, int32.
        threshold: What it is compared with, 0 in a leaf: V, float32.
        left: The child of a node where the comparison holds, -1 in a leaf: V, int32.
        right: The other child, -1 in a leaf: V, int32.
        value: The probability of class 1 among the rows of a node: V, float32.

    >>> from sklearn.ensemble import RandomForestClassifier
    >>> rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    >>> fitted = RandomForestClassifier(10, random_state=0).fit(rows, rows[:, 0] > 0)
    >>> forest = Forest.of(fitted)
    >>> bool(np.abs(forest.predict(rows) - fitted.predict_proba(rows)[:, 1]).max() < 1e-6)
    True

    Raises:
        UsageError: an array is of another type or shape; or a node is neither a leaf nor has two
            children in its tree, after it, each with no other parent; or a feature, threshold or
            probability is out of range; or a tree is deeper than :data:`MOST_LEVELS`.
    """

    columns: int
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats

    def __post_init__(self) -> None:
        _check_types(self)
        _check_roots(self.roots, len(self.feature))
        _check_leaves(self)
        _check_children(self)
        _check_range("probability of node", self.value, (self.value >= 0) & (self.value <= 1))
        if self.levels > MOST_LEVELS:
            raise UsageError(f"a tree is {self.levels} nodes deep; at most {MOST_LEVELS} are taken")

    @classmethod
    def of(cls, fitted: Any) -> Self:
        """The trees of a fitted ``RandomForestClassifier`` of the classes 0 and 1.

        Raises:
            UsageError: its classes are others.
        """
        if list(fitted.classes_) != [0, 1]:
            raise UsageError(f"the forest knows the classes {list(fitted.classes_)}, not 0 and 1")
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        split = np.concatenate([tree.children_left >= 0 for tree in trees])
        values = np.concatenate([tree.value[:, 0, :] for tree in trees])
        return cls(
            columns=int(fitted.n_features_in_),
            roots=roots.astype(np.int32),
            feature=np.where(split, _joined(trees, "feature"), -1).astype(np.int32),
            threshold=np.where(split, _rounded_down(_joined(trees, "threshold")), np.float32(0)),
            left=_children(trees, "children_left", roots),
            right=_children(trees, "children_right", roots),
            value=(values[:, 1] / values.sum(1)).astype(np.float32),
        )

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, for a file."""
        names = (field.name for field in fields(self) if field.name != "columns")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def levels(self) -> int:
        """How many comparisons the deepest leaf of all trees is away from its root."""
        node, depth = self.roots[self.left[self.roots] >= 0], 0
        while len(node) and depth <= MOST_LEVELS:
            children = np.concatenate([self.left[node], self.right[node]])
            node, depth = children[self.left[children] >= 0], depth + 1
        return depth

    @property
    def trees(self) -> int:
        """How many trees there are: T."""
        return len(self.roots)

    def predict(self, rows: NDArray[Any]) -> Probabilities:
        """The probability of class 1, the mean over trees, of each row.

        Args:
            rows: N×F; they are converted to float32, as scikit-learn does.

        Returns:
            N, float64.

        Raises:
            UsageError: the rows are of another width, or hold NaN or infinities.
        """
        found = np.ascontiguousarray(rows, dtype=np.float32)
        if found.ndim != 2 or found.shape[1] != self.columns:
            raise UsageError(
                f"the forest reads rows of {self.columns} features; got an array of shape "
                f"{found.shape}"
            )
        if not np.isfinite(found).all():
            raise UsageError("the features hold NaN or infinities; leave out these images")
        if len(found) <= _FEW or self._bit_vectors is None:
            return self._descend(found)
        total = np.zeros(len(found))
        for part in self._bit_vectors:
            total += part.sums(found)
        return total / self.trees

    @cached_property
    def _bit_vectors(self) -> Sequence[BitVectors] | None:
        """The trees as bit vectors, some at a time; None where descending is faster."""
        leaves = np.add.reduceat((self.left < 0).astype(np.int64), self.roots)
        if leaves.max() > MOST_LEAVES or len(np.unique(self.feature)) > _MANY_COLUMNS:
            return None
        starts = range(0, self.trees, _TREES_AT_ONCE)
        return [BitVectors(self._nodes(first, first + _TREES_AT_ONCE)) for first in starts]

    def _nodes(self, first: int, end: int) -> Nodes:
        """The nodes of some of the trees."""
        roots = self.roots[first:end]
        start = roots[0]
        own = slice(start, self.roots[end] if end < self.trees else None)
        return Nodes(
            roots=roots - start,
            feature=self.feature[own],
            threshold=self.threshold[own],
            left=self.left[own] - start,
            right=self.right[own] - start,
            value=self.value[own],
        )

    @cached_property
    def _steps(self) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
        """Features, thresholds, and each node's two children; leaves lead to themselves."""
        leaf = self.left < 0
        here = np.arange(len(leaf))
        children = np.stack([np.where(leaf, here, self.left), np.where(leaf, here, self.right)], 1)
        return np.where(leaf, 0, self.feature).astype(np.intp), self.threshold, children.reshape(-1)

    def _descend(self, rows: Floats) -> Probabilities:
        """All trees at once, a level at a time."""
        if len(rows) == 1:
            return np.array([self._descend_one(rows[0])])
        result = np.empty(len(rows))
        block = max(1, _STEPS_AT_ONCE // self.trees)
        for first in range(0, len(rows), block):
            part = rows[first : first + block]
            values = self.value.take(self._leaves(part)).reshape(len(part), self.trees)
            result[first : first + block] = values.sum(1, dtype=np.float64)
        return result / self.trees

    def _leaves(self, rows: Floats) -> NDArray[np.intp]:
        """The leaf of each row in each tree: N·T. Pairs that are done are dropped now and then."""
        feature, threshold, children = self._steps
        flat = rows.reshape(-1)
        offset = np.repeat(np.arange(len(rows)) * self.columns, self.trees)
        node = np.tile(self.roots.astype(np.intp), len(rows))
        found, pair = node.copy(), np.arange(len(node))
        for level in range(1, self.levels + 1):
            column = feature.take(node)
            column += offset
            right = flat.take(column) > threshold.take(node)
            node = children.take(node + node + right)
            if level % _DROP_EVERY == 0 or level == self.levels:
                found[pair] = node
                left = np.flatnonzero(self.left.take(node) >= 0)
                node, offset, pair = node.take(left), offset.take(left), pair.take(left)
        return found

    def _descend_one(self, row: Floats) -> float:
        feature, threshold, children = self._steps
        node = self.roots.astype(np.intp)
        for _ in range(self.levels):
            right = row.take(feature.take(node)) > threshold.take(node)
            node = children.take(node + node + right)
        return float(self.value.take(node).sum(dtype=np.float64)) / self.trees


def _joined(trees: Sequence[Any], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(tree, name) for tree in trees])


def _children(trees: Sequence[Any], name: str, roots: NDArray[np.intp]) -> Ints:
    """The children of all nodes, as indices of the joined arrays."""
    parts = [getattr(tree, name) for tree in trees]
    moved = [np.where(part < 0, -1, part + root) for part, root in zip(parts, roots, strict=True)]
    return np.concatenate(moved).astype(np.int32)


def _rounded_down(thresholds: NDArray[np.float64]) -> Floats:
    """The largest float32 that is at most each threshold."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _check_types(forest: Forest) -> None:
    kinds = {"threshold": np.float32, "value": np.float32}
    for name, array in forest.arrays.items():
        kind = kinds.get(name, np.int32)
        if array.dtype != kind or array.ndim != 1:
            raise UsageError(f"{name} of the forest is not a 1-D array of {kind.__name__}")
    lengths = {name: len(array) for name, array in forest.arrays.items() if name != "roots"}
    if len(set(lengths.values())) != 1:
        raise UsageError(f"the forest's arrays are of unequal lengths: {lengths}")
    if not 0 < forest.columns < 1 << 31:
        raise UsageError(f"a forest of {forest.columns} features is not valid")


def _check_roots(roots: Ints, nodes: int) -> None:
    # not by np.diff, which overflows
    increasing = len(roots) > 0 and roots[0] == 0 and (roots[1:] > roots[:-1]).all()
    if not increasing or roots[-1] >= nodes:
        raise UsageError(f"the roots of the forest do not increase from 0 to below {nodes}")


def _check_leaves(forest: Forest) -> None:
    leaf = forest.left < 0
    marked = (forest.left == -1) & (forest.right == -1) & (forest.feature == -1)
    marked &= forest.threshold == 0
    split = (forest.right >= 0) & (forest.feature >= 0) & (forest.feature < forest.columns)
    _check_range("children or feature of node", forest.feature, np.where(leaf, marked, split))
    _check_range("threshold of node", forest.threshold, np.isfinite(forest.threshold))


def _check_children(forest: Forest) -> None:
    """Children come after their node and in its tree, and every node but roots has one parent."""
    nodes = len(forest.feature)
    ends = np.append(forest.roots[1:], nodes)
    end = np.repeat(ends, np.diff(np.append(forest.roots, nodes)))
    split = np.flatnonzero(forest.left >= 0)
    for side in (forest.left, forest.right):
        inside = (side[split] > split) & (side[split] < end[split])
        if not inside.all():
            bad = split[inside.argmin()]
            raise UsageError(f"a child of node {bad} of the forest is not after it in its tree")
    children = np.concatenate([forest.left[split], forest.right[split]])
    parents = np.bincount(children, minlength=nodes)
    expected = np.ones(nodes, dtype=parents.dtype)
    expected[forest.roots] = 0
    _check_range("number of parents of node", parents, parents == expected)


def _check_range(what: str, values: NDArray[Any], good: NDArray[np.bool_]) -> None:
    if not good.all():
        bad = int(good.argmin())
        raise UsageError(f"the {what} {bad} of the forest is not valid: {values[bad]}")
