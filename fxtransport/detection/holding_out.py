"""Which images a detector is fitted on, and which are held out to calibrate or validate it.

An attacked image, or a noisy copy, is held out with the image that it was made from: a detector
that has seen one of them would not be new to the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError

Rows = NDArray[np.int64]
Name = TypeVar("Name", int, str)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows of clean and of attacked images.

    Attributes:
        clean: To fit on.
        attacked: To fit on.
        held_clean: Held out.
        held_attacked: Held out.
    """

    clean: Rows
    attacked: Rows
    held_clean: Rows
    held_attacked: Rows


def hold_out(
    clean: Observations, attacked: Observations | None, share: float, seed: int
) -> HeldOut:
    """Choose a share of the images, by a seed.

    Where both sets know the sources of their images, whole sources are held out, with all that
    was made from them. Otherwise each set is split by itself.

    Raises:
        UsageError: the share is not below 1, or nothing would be left on one side.
    """
    if not 0 <= share < 1:
        raise UsageError(f"the share that is held out is from 0 to below 1, not {share}")
    generator = np.random.default_rng(seed)
    others = 0 if attacked is None else len(attacked)
    known = bool(clean.sources) and (attacked is None or bool(attacked.sources))
    if known:
        away = _chosen(clean.sources, share, generator)
        masks = [np.isin(clean.sources, away), np.zeros(others, dtype=bool)]
        if attacked is not None:
            own = set(clean.sources)
            left = [name for name in attacked.sources if name not in own]
            more = [*away, *_chosen(left, share, generator)] if left else away
            masks[1] = np.isin(attacked.sources, more)
    else:
        masks = []
        for count in (len(clean), others):
            masks.append(np.isin(np.arange(count), _chosen(range(count), share, generator)))
    first, second = masks
    found = HeldOut(*map(np.flatnonzero, (~first, ~second, first, second)))
    if not len(found.clean) or (share and not len(found.held_clean)):
        raise UsageError(
            f"{len(clean)} clean images are too few to fit on some and hold {share:g} out; "
            "give more images"
        )
    return found


def _chosen(names: Sequence[Name], share: float, generator: np.random.Generator) -> list[Name]:
    """A share of the different names: one at least, unless the share is 0."""
    distinct = list(dict.fromkeys(names))
    count = max(1, round(share * len(distinct))) if share and distinct else 0
    return [distinct[at] for at in generator.permutation(len(distinct))[:count]]
