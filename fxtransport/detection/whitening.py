"""A linear map after which observed columns are uncorrelated and of variance 1."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.checks import State
from fxtransport.detection.observations import Array
from fxtransport.errors import UsageError

_EPSILON = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Whitening:
    """From F columns to R ≤ F uncorrelated ones, which is the rank of the covariance.

    Mahalanobis distances stay as they are under an invertible linear map. Directions that no row
    varies in have no inverse variance, and are left out, as the pseudo-inverse does. What is left
    has a covariance that float32 inverts without loss, whatever the one before was.

    Attributes:
        center: The mean of the rows, F.
        matrix: F×R.
    """

    center: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Array) -> Self:
        """That of some rows, N×F.

        Raises:
            UsageError: no column varies.
        """
        exact = rows.astype(np.float64)
        center, scale = exact.mean(0), exact.std(0)
        varies = scale > _EPSILON * np.abs(center)
        if not varies.any():
            raise UsageError(
                f"none of {rows.shape[1]} columns varies over {len(rows)} images; give other images"
            )
        around = (exact - center)[:, varies] / scale[varies]
        values, vectors = np.linalg.eigh(around.T @ around / len(around))
        # what is below follows from other columns, up to the rounding of float32
        kept = values > values.max() * (len(values) * _EPSILON) ** 2
        matrix = np.zeros((rows.shape[1], int(kept.sum())))
        matrix[varies] = vectors[:, kept] / np.sqrt(values[kept]) / scale[varies, None]
        return cls(center, matrix)

    @classmethod
    def from_state(cls, state: State, rank: int) -> Self:
        """From the arrays of :meth:`state`, which are checked.

        Raises:
            UsageError: they are not of such a map, or have other columns than ``rank``.
        """
        center = state.array("center", np.float64, None)
        return cls(center, state.array("whitening", np.float64, len(center), rank))

    def state(self) -> dict[str, NDArray[np.float64]]:
        """The arrays for a file."""
        return {"center": self.center, "whitening": self.matrix}

    def columns(self, count: int) -> int:
        """The rank that it would have with enough rows, if it is of ``count`` rows."""
        rank = self.matrix.shape[1]
        return rank if rank < count - 1 else int(self.matrix.any(1).sum())

    def __call__(self, rows: Array) -> Array:
        """Rows of F columns as rows of R columns, N×R, float32."""
        found: Array = ((rows - self.center) @ self.matrix).astype(np.float32)
        return found
