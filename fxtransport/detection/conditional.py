"""A forest for all images, and forests for the images of one predicted class each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.trees import Forest, Probabilities
from fxtransport.errors import UsageError

Rule = Literal["general", "class", "either"]
RULES: tuple[Rule, ...] = ("general", "class", "either")

_MOST_CLASSES = 1 << 20
_MOST_COLUMNS = 1 << 24


@dataclass(frozen=True, eq=False)
class ConditionalForest:
    """Forests that score together.

    Attributes:
        general: The forest of all images.
        by_class: Forests by predicted class; classes without one use the general forest.
        rule: Whose score counts: the ``general`` forest's, that of the predicted ``class``, or
            the larger of the two, which exceeds a threshold where ``either`` does.

    Raises:
        UsageError: a forest reads other features than the general one.
    """

    general: Forest
    by_class: Mapping[int, Forest] = field(default_factory=dict)
    rule: Rule = "general"

    def __post_init__(self) -> None:
        for number, forest in self.by_class.items():
            if forest.columns != self.general.columns:
                raise UsageError(
                    f"the forest of class {number} reads {forest.columns} features, the general "
                    f"one {self.general.columns}"
                )

    def predict(self, rows: NDArray[Any], classes: NDArray[np.int64] | None) -> Probabilities:
        """The scores of N rows.

        Args:
            rows: N×F.
            classes: The predicted class of each, N; only the general rule does without.

        Raises:
            UsageError: there are no classes, or the rows are not valid.
        """
        if self.rule == "general":
            return self.general.predict(rows)
        if classes is None:
            raise UsageError(
                "this detector has forests for predicted classes; give the predicted classes, or "
                "observations with logits"
            )
        own = np.full(len(rows), np.nan)
        for number in np.unique(classes):
            chosen = classes == number
            if int(number) in self.by_class:
                own[chosen] = self.by_class[int(number)].predict(rows[chosen])
        left = np.isnan(own)
        if self.rule == "class":
            if left.any():
                own[left] = self.general.predict(rows[left])
            return own
        return np.asarray(np.fmax(own, self.general.predict(rows)))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and settings, which :meth:`from_state` reads."""
        arrays = {f"general.{name}": array for name, array in self.general.arrays.items()}
        for number, forest in self.by_class.items():
            arrays |= {f"class.{number}.{name}": array for name, array in forest.arrays.items()}
        return arrays, {
            "columns": self.general.columns,
            "classes": sorted(self.by_class),
            "rule": self.rule,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The forests of a state, all of which is checked.

        Raises:
            UsageError: it is invalid.
        """
        columns = state.integer("columns", 1, _MOST_COLUMNS)
        chosen = state.choice("rule", RULES)
        rule = next(rule for rule in RULES if rule == chosen)
        numbers = state.integers("classes", 0, _MOST_CLASSES)
        general = _forest(state.part("general."), columns)
        by_class = {n: _forest(state.part(f"class.{n}."), columns) for n in numbers}
        return cls(general, by_class, rule)


def _forest(state: State, columns: int) -> Forest:
    kinds = {"threshold": np.float32, "value": np.float32}
    names = ("roots", "feature", "threshold", "left", "right", "value")
    forest = Forest(
        columns, **{name: state.array(name, kinds.get(name, np.int32), None) for name in names}
    )
    state.finish()
    return forest
