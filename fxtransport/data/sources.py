"""Where each split of a set comes from, and how much is in it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitSource:
    """Where a split comes from, and how much is in it.

    Attributes:
        origin: Where from, in words.
        samples: How many samples it has.
        classes: Of how many classes they are; None where nothing tells before they are read.
    """

    origin: str
    samples: int
    classes: int | None

    def __str__(self) -> str:
        if not self.samples:
            return f"none, {self.origin}"
        of = "" if self.classes is None else f" of {self.classes} classes"
        if self.classes == 1:
            of = " of 1 class"
        return f"{self.samples} samples{of}, {self.origin}"

    def table(self) -> dict[str, Any]:
        """The same as a table of a configuration file."""
        return asdict(self)


def find_sources(
    own: Mapping[str, str],
    classes: Mapping[str, Sequence[int] | None],
    shares: Mapping[str, float],
    *,
    train_samples: int | None = None,
    by_content: bool = False,
    missing: str = "",
) -> dict[str, SplitSource]:
    """Where each split comes from.

    Args:
        own: What the set calls the splits that it has; it has one to train on.
        classes: The class of each sample of each split; None where there is no such split.
        shares: Of the validation and the test split, which are held out where the set has none.
        train_samples: How many training samples are kept; all if None.
        by_content: Whether that was by the content of files.
        missing: Why there is no test split, if there is none.
    """
    how = "by their content" if by_content else "of each class"
    origins = {
        split: f"from {own[split]}"
        if split in own
        else f"held out of {own['train']}, a share of {shares[split]:g} {how}"
        for split in SPLITS
    }
    if any(classes[split] is not None and split not in own for split in shares):
        origins["train"] += ", without what is held out"
    if train_samples is not None:
        origins["train"] += f", limited to {train_samples}"
    if classes["validation"] is None:
        origins["validation"] = "because none is held out"
    if classes["test"] is None:
        origins["test"] = missing
    found = {}
    for split in SPLITS:
        these = classes[split] or ()
        found[split] = SplitSource(origins[split], len(these), len({*these}))
    return found
