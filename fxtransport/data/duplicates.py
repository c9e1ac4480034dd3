"""Samples that are in two splits: what is measured on them was trained on."""

from collections.abc import Mapping, Sequence

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
