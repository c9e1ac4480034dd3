"""What became of images that were attacked, and which of them count."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.errors import UsageError

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of N images.

    Counted as attacked is only what was classified correctly, was changed, and fools the model.
    Images that were misclassified before, came back unchanged, or do not fool it are counted
    apart.

    Attributes:
        misclassified: Which clean images the model was wrong about: N.
        unchanged: Which images came back as they were: N.
        fooled: For which the model predicts what was wanted: N.
        count_all: Count every image as attacked, as the published tables do (THESIS 5.4: one
            adversarial image for each clean one).

    Raises:
        UsageError: the lengths do not agree.
    """

    misclassified: Flags
    unchanged: Flags
    fooled: Flags
    count_all: bool = False

    def __post_init__(self) -> None:
        lengths = {len(flags) for flags in (self.misclassified, self.unchanged, self.fooled)}
        if len(lengths) != 1:
            raise UsageError(f"what became of images is told of {sorted(lengths)} of them")

    def __len__(self) -> int:
        return len(self.misclassified)

    @property
    def successful(self) -> Flags:
        """Which were classified correctly, were changed, and fool the model: N."""
        return ~self.misclassified & ~self.unchanged & self.fooled

    @property
    def counted(self) -> Flags:
        """Which count as attacked: N."""
        return np.ones(len(self), bool) if self.count_all else self.successful

    @property
    def success_rate(self) -> float:
        """The share of successful images among those that were classified correctly; 0 to 1.

        NaN if none was.
        """
        right = int((~self.misclassified).sum())
        return int(self.successful.sum()) / right if right else float("nan")

    @property
    def counts(self) -> dict[str, int]:
        """How many images there are of each kind; the first four make up all of them."""
        right = ~self.misclassified
        kinds = {
            "successful": self.successful,
            "misclassified before": self.misclassified,
            "unchanged": right & self.unchanged,
            "not fooled": right & ~self.unchanged & ~self.fooled,
            "counted": self.counted,
        }
        return {name: int(kind.sum()) for name, kind in kinds.items()}

    def take(self, rows: NDArray[np.int64]) -> Self:
        """The same of some images."""
        return replace(
            self,
            misclassified=self.misclassified[rows],
            unchanged=self.unchanged[rows],
            fooled=self.fooled[rows],
        )
