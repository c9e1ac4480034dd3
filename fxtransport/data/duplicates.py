"""Samples that are in two splits: what is measured on them was trained on."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from fxtransport.errors import UsageError

Named = Sequence[tuple[bytes, str]]
"""Of each sample of a split, the hash of its content and its name."""


def count_duplicates(splits: Mapping[str, Named], *, allow: bool) -> int:
    """How many samples have the content of one in an earlier split.

    Args:
        splits: The splits by name, those of training first.
        allow: Whether there may be any.

    Raises:
        UsageError: there are, and there may not.
    """
    known: dict[bytes, tuple[str, str]] = {}
    found = []
    for split, samples in splits.items():
        found += [(known[key], (split, name)) for key, name in samples if key in known]
        for key, name in samples:
            known.setdefault(key, (split, name))
    if found and not allow:
        (one, first), (other, second) = found[0]
        count = "1 image is" if len(found) == 1 else f"{len(found)} images are"
        raise UsageError(
            f"{count} in two splits, such as {first} ({one}) and {second} ({other}): take them "
            "out of one of the two, or give allow_duplicates=True"
        )
    return len(found)


def refuse_one_split(splits: Mapping[str, Path | str | None]) -> None:
    """Raise a UsageError if two splits are one, or one folder is inside another, links followed.

    Args:
        splits: Their folders or names; None for those that there are not.
    """
    named = [(name, split) for name, split in splits.items() if split is not None]
    for (one, first), (other, second) in itertools.combinations(named, 2):
        places = [p.resolve() if isinstance(p, Path) else Path(p) for p in (first, second)]
        if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
            raise UsageError(
                f"the splits {one} and {other} share their images: {first} and {second} are "
                f"{'one folder' if places[0] == places[1] else 'inside each other'}; name others "
                "with train_split, validation_split and test_split"
            )
