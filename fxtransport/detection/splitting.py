"""Split images into those to fit detectors on and those to test them on, and refuse overlap."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxtransport.detection.observations import Observations
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FitAndTest:
    """Rows of images: B1, to fit and to validate on, and B2, to test on (THESIS 5.4)."""

    fit: Rows
    test: Rows


def split_images(observed: Observations, test: float, seed: int) -> FitAndTest:
    """Choose a share of the images to test on, by a seed.

    Images that are there twice, or were made from one image, are on one side.

    Args:
        observed: Of N images, with hashes.
        test: The share to test on, between 0 and 1.
        seed: Determines the choice.

    Raises:
        UsageError: the share is out of range, there are no hashes, or nothing would be left on
            one side.
    """
    if not 0 < test < 1:
        raise UsageError(f"test is a share between 0 and 1, not {test}")
    _require_hashes("clean images", observed)
    distinct = sorted(set(observed.sources))
    count = round(test * len(distinct))
    if not 0 < count < len(distinct):
        raise UsageError(
            f"test={test:g} of {len(distinct)} different images leaves none on one side"
        )
    order = np.random.default_rng(derived_seed(seed)).permutation(len(distinct))
    chosen = {distinct[place] for place in order[:count]}
    away = np.array([source in chosen for source in observed.sources])
    return FitAndTest(np.flatnonzero(~away), np.flatnonzero(away))


def refuse_overlap(fitted: Mapping[str, Observations], tested: Mapping[str, Observations]) -> None:
    """Check that nothing is tested on that was fitted on, nor what was made from it.

    Args:
        fitted: Images to fit on, by what they are.
        tested: Images to test on, by what they are.

    Raises:
        UsageError: an image is on both sides, or a set has no hashes.
    """
    for what, observed in [*fitted.items(), *tested.items()]:
        _require_hashes(what, observed)
    for what, observed in fitted.items():
        known = {*observed.hashes, *observed.sources}
        for other, new in tested.items():
            pairs = zip(new.hashes, new.sources, strict=True)
            shared = [row for row, both in enumerate(pairs) if known & {*both}]
            if shared:
                raise UsageError(
                    f"{len(shared)} of {len(new)} {other} to test on, the first of them in row "
                    f"{shared[0]}, are also among the {what} to fit on, or were made from one of "
                    "them; split the images first, by their hashes"
                )


def _require_hashes(what: str, observed: Observations) -> None:
    if not observed.hashes:
        raise UsageError(
            f"{what} have no hashes, so nobody knows whether some are fitted and tested on; "
            "give Observations with hashes"
        )
