"""How a set is cut into training, validation and test samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from fxtransport.data.streams import derived_seed
from fxtransport.errors import UsageError


@dataclass(frozen=True)
class Cut:
    """Which parts to cut from a set that lacks them; seeded, each class in proportion.

    Args:
        seed: Of the choice.
        validation: The share of the training samples that becomes the validation split; 0: none.
        test: The share of all samples that becomes the test split, where the set has none.
        train_images: How many training samples to keep, of those that remain; None: all.

    Raises:
        UsageError: a share is not in [0, 1).
    """

    seed: int
    validation: float = 0.1
    test: float = 0.2
    train_images: int | None = None

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise UsageError(f"{name} is a share, from 0 to below 1, not {share}")

    def of_all(self, targets: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """Numbers of training, validation and test samples, of a set that is not cut yet.

        Raises:
            UsageError: there are too few samples, or none would be left to test on.
        """
        if self.test == 0:
            raise UsageError("this set has no test split of its own: test must be above 0")
        rest, test = self._hold_out(targets, range(len(targets)), self.test, "test")
        return (*self.of_train(targets, rest), test)

    def of_train(
        self, targets: Sequence[int], indices: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """Numbers of training and validation samples, of those that are not for the test.

        Raises:
            UsageError: there are too few samples.
        """
        if self.validation == 0:
            return self.keep(targets, indices), []
        rest, validation = self._hold_out(targets, indices, self.validation, "validation")
        return self.keep(targets, rest), validation

    def keep(self, targets: Sequence[int], indices: Sequence[int]) -> list[int]:
        """As many of these training samples as are wanted.

        Raises:
            UsageError: there are not as many, or not one for each class.
        """
        wanted = len(indices) if self.train_images is None else self.train_images
        if not 0 < wanted <= len(indices):
            raise UsageError(f"train_images is {wanted}, but there are {len(indices)} to train on")
        if wanted == len(indices):
            return list(indices)
        _, kept = self._hold_out(targets, indices, wanted, "train_images")
        return kept

    def _hold_out(
        self, targets: Sequence[int], indices: Sequence[int], size: float, what: str
    ) -> tuple[list[int], list[int]]:
        from sklearn.model_selection import train_test_split

        try:
            rest, held_out = train_test_split(
                list(indices),
                test_size=size,
                stratify=[targets[i] for i in indices],
                random_state=derived_seed(self.seed, *what.encode()) % 2**32,
            )
        except ValueError as error:
            # each class must be on both sides
            raise UsageError(
                f"{what}: cannot take {size:g} of {len(indices)} samples: {error}"
            ) from error
        return sorted(rest), sorted(held_out)
