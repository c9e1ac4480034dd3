"""What detectors know of images: named arrays with a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.errors import UsageError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Observations:
    """What was taken of N images, as the detectors read it.

    Attributes:
        values: The arrays by name, each N×F, float32: ``transport`` (the 2M features),
            ``logits``, ``penultimate``, ``layer.0``, ``layer.1``, … (activations averaged
            over space), ``laplacian``, ``nss``, and what else a detector reads.
        hashes: A hash of each image's content, N of them, by which splits are kept apart.
            Empty where nobody needs them.

    Raises:
        UsageError: an array has another number of rows, is not 2-D, or holds NaN or
            infinities.
    """

    values: Mapping[str, Array]
    hashes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("observations hold no array")
        for name, value in self.values.items():
            if value.ndim != 2 or len(value) != len(self):
                raise UsageError(
                    f"{name} is of shape {value.shape}; a row for each of {len(self)} images "
                    "is needed"
                )
            bad = ~np.isfinite(value).all(1)
            if bad.any():
                raise UsageError(
                    f"{name} of image {int(bad.argmax())} holds NaN or infinities "
                    f"({int(bad.sum())} of {len(self)} images do); leave out these images"
                )
        if self.hashes and len(self.hashes) != len(self):
            raise UsageError(f"{len(self.hashes)} hashes for {len(self)} images")

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, name: str) -> Array:
        """One of the arrays, N×F.

        Raises:
            UsageError: it was not taken.
        """
        if name not in self.values:
            have = ", ".join(self.values)
            raise UsageError(f"the observations hold no {name!r}; they hold {have}")
        return self.values[name]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted class of each image, N."""
        predicted: NDArray[np.int64] = self["logits"].argmax(1)
        return predicted

    def take(self, rows: Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The observations of some images, given by their indices or a mask."""
        kept = np.arange(len(self))[np.asarray(rows)]
        hashes = tuple(self.hashes[row] for row in kept) if self.hashes else ()
        return type(self)({name: value[kept] for name, value in self.values.items()}, hashes)

    @classmethod
    def concatenated(cls, many: Sequence["Observations"]) -> "Observations":
        """The observations of several sets of images, one after the other.

        Raises:
            UsageError: they do not hold the same arrays.
        """
        names = list(many[0].values)
        for one in many:
            if list(one.values) != names:
                raise UsageError(f"some observations hold {list(one.values)}, others {names}")
        values = {name: np.concatenate([one[name] for one in many]) for name in names}
        hashed = all(one.hashes for one in many)
        return cls(values, tuple(h for one in many for h in one.hashes) if hashed else ())
