"""Forests are fitted by scikit-learn, and their size is chosen on images held out for that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.conditional import ConditionalForest, Rule
from fxtransport.detection.trees import Forest
from fxtransport.errors import UsageError

TREES = 100
MOST_NODES = 130_000
"""Of all forests of a detector. A node takes 20 bytes, and a saved detector less than 3 MB."""
FEWEST_IN_CLASS = 20
"""Clean images, and attacked ones, from which a predicted class has a forest of its own."""
FEWEST = 2
"""Clean images, and attacked ones, from which a forest is fitted."""

_TRIAL_TREES = 30
_FEWEST_TREES = 10


@dataclass(frozen=True)
class Size:
    """How large trees grow: the leaves of a tree, and the images in a leaf."""

    most_leaves: int
    fewest_images: int

    def __str__(self) -> str:
        """``64 leaves of 4 images``."""
        return f"{self.most_leaves} leaves of {self.fewest_images} images"

    def nodes(self, images: int) -> int:
        """The most nodes that a tree has which is fitted on a number of images."""
        return 2 * min(self.most_leaves, max(1, images // self.fewest_images)) - 1


SIZES = tuple(Size(leaves, images) for leaves in (64, 256) for images in (1, 4, 16))
TYPICAL = Size(64, 4)


def distinct_sizes(images: int) -> list[Size]:
    """Those of :data:`SIZES` by which different trees may grow on a number of images."""
    few = min(size.most_leaves for size in SIZES)
    return [s for s in SIZES if s.most_leaves == few or s.fewest_images * few < images]


@dataclass(frozen=True, eq=False)
class Labeled:
    """Rows to learn from.

    Attributes:
        rows: n×F.
        attacked: Whether each is of an attacked image: n.
        classes: Predicted classes, if known: n.
    """

    rows: NDArray[np.float32]
    attacked: NDArray[np.bool_]
    classes: NDArray[np.int64] | None

    def take(self, rows: NDArray[Any]) -> "Labeled":
        """Some of the rows."""
        classes = None if self.classes is None else self.classes[rows]
        return Labeled(self.rows[rows], self.attacked[rows], classes)

    @property
    def fewest(self) -> int:
        """How many rows there are of the rarer of the two kinds."""
        count = int(self.attacked.sum())
        return min(count, len(self.attacked) - count)


def grow(data: Labeled, size: Size, seed: int, trees: int = TREES) -> Forest:
    """A random forest, with clean and attacked rows weighted equally.

    Raises:
        UsageError: there are too few rows of a kind.
    """
    from sklearn.ensemble import RandomForestClassifier

    if data.fewest < FEWEST:
        raise UsageError(
            f"a forest needs {FEWEST} clean and {FEWEST} attacked images at least, beside those "
            f"that are held out; there are {data.fewest} of one kind"
        )
    classifier = RandomForestClassifier(
        trees,
        max_leaf_nodes=size.most_leaves,
        min_samples_leaf=size.fewest_images,
        class_weight="balanced",
        random_state=seed,
    )
    return Forest.of(classifier.fit(data.rows, data.attacked.astype(np.int64)))


def grow_all(data: Labeled, size: Size, rule: Rule, seed: int) -> ConditionalForest:
    """The general forest, and those of the predicted classes that have images enough.

    Together they have at most :data:`MOST_NODES` nodes: where there are many classes, their
    forests have fewer trees, and the classes with the fewest images none.

    Raises:
        UsageError: there are too few rows, or predicted classes are needed and not known.
    """
    general = grow(data, size, seed)
    if rule == "general":
        return ConditionalForest(general)
    if data.classes is None:
        raise UsageError(
            "forests for predicted classes need the predicted classes, or observations with logits"
        )
    by_class: dict[int, Forest] = {}
    left = MOST_NODES - len(general.feature)
    numbers, counts = np.unique(data.classes, return_counts=True)
    order = [int(numbers[at]) for at in np.argsort(-counts, kind="stable")]
    own = {number: data.take(data.classes == number) for number in order}
    waiting = [number for number in order if own[number].fewest >= FEWEST_IN_CLASS]
    for at, number in enumerate(waiting):
        nodes = size.nodes(len(own[number].rows))
        share = max(left // (len(waiting) - at), _FEWEST_TREES * nodes)
        if share > left:
            break
        trees = min(TREES, share // nodes)
        by_class[number] = grow(own[number], size, seed, trees)
        left -= len(by_class[number].feature)
    return ConditionalForest(general, by_class, rule)


def trial(splits: Iterable[tuple[Labeled, Labeled]], size: Size, seed: int) -> float:
    """The mean AUROC, over splits, of small forests fitted on the first and scored on the other.

    Raises:
        UsageError: there are too few rows of a kind.
    """
    from sklearn.metrics import roc_auc_score

    found = []
    for fitted, other in splits:
        if not other.fewest:
            raise UsageError("too few images are attacked to validate a forest; give more")
        scores = grow(fitted, size, seed, _TRIAL_TREES).predict(other.rows)
        found.append(float(roc_auc_score(other.attacked, scores)))
    return sum(found) / len(found)


def best(values: Mapping[str, float]) -> str:
    """The name of the largest value; of equal ones the first."""
    return max(values, key=lambda name: round(values[name], 6))
