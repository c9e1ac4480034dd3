"""What detectors know of images: named arrays with a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fxtransport.errors import UsageError

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Observations:
    """What was taken of N images, as the detectors read it.

    Attributes:
        values: The arrays by name, each N×F, float32: ``transport`` (the 2M features),
            ``logits``, ``penultimate``, ``layer.0``, ``layer.1``, … (activations averaged
            over space), ``laplacian``, ``nss``, and what else a detector reads.
        hashes: A hash of each image's content, N of them, by which splits are kept apart.
            Empty where nobody needs them.
        sources: The hash of the image that each was made from, N of them: of an attacked image
            or a noisy copy, its original's; of any other image its own, which is the default.

    Arrays of other floating-point types are converted to float32.

    Raises:
        UsageError: an array has another number of rows, is not 2-D, or holds NaN or
            infinities; or there are more or fewer hashes or sources than images.
    """

    values: Mapping[str, Array]
    hashes: tuple[str, ...] = field(default=(), repr=False)
    sources: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("observations hold no array")
        converted = {name: _float32(name, value) for name, value in self.values.items()}
        object.__setattr__(self, "values", converted)
        object.__setattr__(self, "sources", self.sources or self.hashes)
        for name, value in self.values.items():
            if value.ndim != 2 or len(value) != len(self) or not value.shape[1]:
                raise UsageError(
                    f"{name} is of shape {value.shape}; a row of numbers for each of {len(self)} "
                    "images is needed"
                )
            bad = ~np.isfinite(value).all(1)
            if bad.any():
                raise UsageError(
                    f"{name} of image {int(bad.argmax())} holds NaN or infinities "
                    f"({int(bad.sum())} of {len(self)} images do); leave out these images"
                )
        for kind in ("hashes", "sources"):
            given = len(getattr(self, kind))
            if given not in (0, len(self)):
                raise UsageError(f"{given} {kind} for {len(self)} images")

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
        return np.asarray(self["logits"].argmax(1))

    def take(self, rows: Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The observations of some images, given by their indices or a mask."""
        chosen = np.asarray(rows)
        kept = np.arange(len(self))[chosen if chosen.size else chosen.astype(np.int64)]
        return type(self)(
            {name: value[kept] for name, value in self.values.items()},
            tuple(self.hashes[row] for row in kept) if self.hashes else (),
            tuple(self.sources[row] for row in kept) if self.sources else (),
        )

    @property
    def originals(self) -> NDArray[np.bool_]:
        """Whether each image is as it was taken, N: not a noisy copy; true if nobody knows."""
        if not self.hashes:
            return np.ones(len(self), dtype=bool)
        return np.equal(self.hashes, self.sources)

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
        hashes = _joined([one.hashes for one in many])
        return cls(values, hashes, _joined([one.sources for one in many]))


def _joined(many: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """All names one after the other; none if one of the sets has none."""
    return tuple(name for names in many for name in names) if all(many) else ()


def _float32(name: str, value: object) -> Array:
    found = np.asarray(value)
    if found.dtype.kind != "f":
        raise UsageError(f"{name} holds {found.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):
        return found.astype(np.float32, copy=False)
