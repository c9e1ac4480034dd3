"""How a set without splits of its own is split into training, validation and test samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fxtransport.data.streams import Samples
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed

SEED_NAMES = {"test": "test", "validation": "validation", "train_samples": "train_images"}
"""What the seed of each choice is derived from. A change here would change every split."""


@dataclass(frozen=True)
class SplitSamples:
    """A set that is split, before its samples are made into batches.

    Attributes:
        train: The training samples.
        validation: The samples to choose by, if there are any.
        test: The samples for the final test.
        class_names: The names of the classes, in order.
        input_size: The shape of one input.
        in_memory: Whether samples lie in memory, so that fetching them takes no time.
        transform: The options of ``timm.data.create_transform`` by which images that are read
            from files become the same inputs; None of points.
        duplicates: How many samples are in another split, too; None where that is not known.
    """

    train: Samples
    validation: Samples | None
    test: Samples
    class_names: tuple[str, ...]
    input_size: tuple[int, ...]
    in_memory: bool = False
    transform: Mapping[str, Any] | None = None
    duplicates: int | None = 0


@dataclass(frozen=True)
class HoldOut:
    """Which samples to hold out of a set: random; of sets that never change, by their place.

    By place each class is held out in proportion. Of folders, to which images may be added,
    samples are held out by their content, see :meth:`by_content`.

    Args:
        seed: Determines the choice.
        validation: The share of the training samples that becomes the validation split; 0 for
            none.
        test: The share of all samples that becomes the test split, where the set has none.
        train_samples: How many of the remaining training samples to keep; all if None.

    Raises:
        UsageError: a share is not in [0, 1).
    """

    seed: int
    validation: float = 0.1
    test: float = 0.2
    train_samples: int | None = None

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise UsageError(f"{name} is a share, from 0 to below 1, not {share}")

    def split(self, classes: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """The indices of training, validation and test samples, of a set without any splits.

        Raises:
            UsageError: there are too few samples, or none would be left to test on.
        """
        rest, test = self.hold_out_test(classes)
        rest, validation = self.hold_out_validation(classes, rest)
        return self.keep(classes, rest), validation, test

    def hold_out_test(self, classes: Sequence[int]) -> tuple[list[int], list[int]]:
        """The indices of the samples that are not for the test, and of those that are.

        Raises:
            UsageError: there are too few samples, or none would be left to test on.
        """
        if self.test == 0:
            raise UsageError("this set has no test split of its own: test must be above 0")
        return self._hold_out(classes, range(len(classes)), self.test, "test")

    def hold_out_validation(
        self, classes: Sequence[int], indices: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """The indices of the samples that are not for validation, and of those that are.

        Raises:
            UsageError: there are too few samples.
        """
        if self.validation == 0:
            return list(indices), []
        return self._hold_out(classes, indices, self.validation, "validation")

    def by_content(
        self, hashes: Sequence[bytes], indices: Sequence[int], what: str
    ) -> tuple[list[int], list[int]]:
        """The indices of samples that are not held out, and of those that are.

        Each sample is drawn by itself, by the seed and its content: so it stays where it is
        whatever is added or taken away, and samples of one content are on one side.

        Args:
            hashes: Of the content of each sample of the set.
            indices: Of the samples to choose from.
            what: ``test`` or ``validation``.

        Raises:
            UsageError: none is held out although some shall be, or all are.
        """
        share = {"test": self.test, "validation": self.validation}[what]
        if what == "test" and share == 0:
            raise UsageError("this set has no test split of its own: test must be above 0")
        name, limit = SEED_NAMES[what].encode(), share * 2**64
        rest: list[int] = []
        held_out: list[int] = []
        for i in indices:
            draw = derived_seed(self.seed, *name, *hashes[i])
            (held_out if draw < limit else rest).append(i)
        if not rest or (share and not held_out):
            raise UsageError(
                f"{what}: of {len(indices)} samples, a share of {share:g} by their content is "
                f"{len(held_out)}: give another share or seed, or more samples"
            )
        return rest, held_out

    def keep(self, classes: Sequence[int], indices: Sequence[int]) -> list[int]:
        """The indices of the training samples to keep.

        Raises:
            UsageError: there are fewer than ``train_samples``, or not one for each class.
        """
        wanted = len(indices) if self.train_samples is None else self.train_samples
        if not 0 < wanted <= len(indices):
            raise UsageError(
                f"train_samples is {wanted}, but there are {len(indices)} training samples"
            )
        if wanted == len(indices):
            return list(indices)
        _, kept = self._hold_out(classes, indices, wanted, "train_samples")
        return kept

    def _hold_out(
        self, classes: Sequence[int], indices: Sequence[int], size: float, what: str
    ) -> tuple[list[int], list[int]]:
        from sklearn.model_selection import train_test_split

        try:
            rest, held_out = train_test_split(
                list(indices),
                test_size=size,
                stratify=[classes[i] for i in indices],
                random_state=derived_seed(self.seed, *SEED_NAMES[what].encode()) % 2**32,
            )
        except ValueError as error:
            # each class must be on both sides
            raise UsageError(
                f"{what}: cannot take {size:g} of {len(indices)} samples: {error}"
            ) from error
        return sorted(rest), sorted(held_out)
