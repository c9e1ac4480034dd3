"""How a set without splits of its own is split into training, validation and test samples."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fxtransport.data.sources import SPLITS, SplitSource, find_sources
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
        test: The samples for the final test, if there are any.
        class_names: The names of the classes, in order.
        input_size: The shape of one input.
        in_memory: Whether samples lie in memory, so that fetching them takes no time.
        transform: The options of ``timm.data.create_transform`` by which images that are read
            from files become the same inputs; None of points.
        duplicates: How many samples are in another split, too; None where that is not known.
        sources: Where each split comes from, by its name.
        notes: What was left out of the set, for people.
    """

    train: Samples
    validation: Samples | None
    test: Samples | None
    class_names: tuple[str, ...]
    input_size: tuple[int, ...]
    in_memory: bool = False
    transform: Mapping[str, Any] | None = None
    duplicates: int | None = 0
    sources: Mapping[str, SplitSource] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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

    def sources(
        self,
        own: Mapping[str, str],
        classes: Mapping[str, Sequence[int] | None],
        *,
        by_content: bool = False,
        missing: str = "",
    ) -> dict[str, SplitSource]:
        """Where each split comes from, as :func:`find_sources` says it."""
        return find_sources(
            own,
            classes,
            {"validation": self.validation, "test": self.test},
            train_samples=self.train_samples,
            by_content=by_content,
            missing=missing,
        )

    def whole_set(
        self, classes: Sequence[int], indices: Sequence[Sequence[int]]
    ) -> dict[str, SplitSource]:
        """Where the splits come from of a set that has none of its own.

        Args:
            classes: The class of each sample.
            indices: Those of the samples of each split.
        """
        held = [[classes[i] for i in own] or None for own in indices]
        return self.sources({"train": "the set"}, dict(zip(SPLITS, held, strict=True)))

    def split(
        self, classes: Sequence[int], names: Sequence[str] = ()
    ) -> tuple[list[int], list[int], list[int]]:
        """The indices of training, validation and test samples, of a set without any splits.

        Args:
            classes: The class of each sample.
            names: What the classes are called, for errors.

        Raises:
            UsageError: there are too few samples, or none would be left to test on.
        """
        rest, test = self.hold_out_test(classes, names)
        rest, validation = self.hold_out_validation(classes, rest, names)
        return self.keep(classes, rest, names), validation, test

    def hold_out_test(
        self, classes: Sequence[int], names: Sequence[str] = ()
    ) -> tuple[list[int], list[int]]:
        """The indices of the samples that are not for the test, and of those that are.

        Raises:
            UsageError: there are too few samples, or none would be left to test on.
        """
        if self.test == 0:
            raise UsageError("this set has no test split of its own: test must be above 0")
        return self._hold_out(classes, range(len(classes)), self.test, "test", names)

    def hold_out_validation(
        self, classes: Sequence[int], indices: Sequence[int], names: Sequence[str] = ()
    ) -> tuple[list[int], list[int]]:
        """The indices of the samples that are not for validation, and of those that are.

        Raises:
            UsageError: there are too few samples.
        """
        if self.validation == 0:
            return list(indices), []
        return self._hold_out(classes, indices, self.validation, "validation", names)

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

    def keep(
        self, classes: Sequence[int], indices: Sequence[int], names: Sequence[str] = ()
    ) -> list[int]:
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
        _, kept = self._hold_out(classes, indices, wanted, "train_samples", names)
        return kept

    def _hold_out(
        self,
        classes: Sequence[int],
        indices: Sequence[int],
        size: float,
        what: str,
        names: Sequence[str] = (),
    ) -> tuple[list[int], list[int]]:
        from sklearn.model_selection import train_test_split

        chosen = [classes[i] for i in indices]
        reason = _too_few(Counter(chosen), size, what, names)
        if reason is not None:
            raise UsageError(f"{what}: cannot take {size:g} of {len(chosen)} samples: {reason}")
        rest, held_out = train_test_split(
            list(indices),
            test_size=size,
            stratify=chosen,
            random_state=derived_seed(self.seed, *SEED_NAMES[what].encode()) % 2**32,
        )
        return sorted(rest), sorted(held_out)


def _too_few(counts: Mapping[int, int], size: float, what: str, names: Sequence[str]) -> str | None:
    """Why each class cannot be both in what is held out and in the rest, and what to do."""
    total, kinds = sum(counts.values()), len(counts)
    held = size if size >= 1 else math.ceil(size * total)
    small = [c for c, count in counts.items() if count < 2]
    if small:
        name = names[small[0]] if names else str(small[0])
        more = f", as {len(small) - 1} more have" if len(small) > 1 else ""
        remedy = {
            "validation": "set validation to 0",
            "train_samples": "leave out train_samples",
        }.get(what, "leave that class out")
        return (
            f"the class {name} has a single one{more}, and each must be on both sides: add "
            f"samples to it, or {remedy}"
        )
    if total < 2 * kinds or kinds <= held <= total - kinds:
        return None if total >= 2 * kinds else f"{kinds} classes need at least {2 * kinds}"
    low, high = (kinds, total - kinds) if size >= 1 else (kinds / total, 1 - kinds / total)
    where = "taken" if held < kinds else "left"
    bound = math.ceil(low * 1000) / 1000 if held < kinds else math.floor(high * 1000) / 1000
    return (
        f"fewer than one of each of {kinds} classes would be {where}; give at "
        f"{'least' if held < kinds else 'most'} {bound:g}"
    )
