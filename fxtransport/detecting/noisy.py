"""Noisy copies of images that were attacked, which detectors shall take for clean."""

from collections.abc import Sequence
from dataclasses import replace

from fxtransport.detecting.attacking import observe
from fxtransport.detecting.senses import Senses
from fxtransport.detection import Observations
from fxtransport.detection.attacks import AttackedSet
from fxtransport.detection.noise import noisy_copies
from fxtransport.errors import UsageError
from fxtransport.randomness import derived_seed


def observe_noisy(
    senses: Senses, attacked: Sequence[AttackedSet], clean: Observations, seed: int
) -> Observations:
    """What is observed of noisy copies, one for each attack and image (THESIS 5.4).

    Each has as much noise as the attack changed the image, by Euclidean norm. An image that an
    attack left as it was has no copy.

    Args:
        senses: What is read.
        attacked: Of the same N images each.
        clean: Of these, in the same order, with hashes.
        seed: Determines the noise.

    Returns:
        With the hashes of the clean images as sources.

    Raises:
        UsageError: no attack changed an image.
    """
    found = []
    for number, made in enumerate(attacked):
        change = (made.attacked - made.clean).flatten(1).norm(dim=1)
        copies = noisy_copies(made.clean, change, derived_seed(seed, number))
        rows = (copies != made.clean).flatten(1).any(1).nonzero().squeeze(1)
        if len(rows):
            sources = tuple(clean.hashes[row] for row in rows.tolist())
            found.append(replace(observe(senses, copies[rows]), sources=sources))
    if not found:
        raise UsageError("no attack changes an image, so noisy copies would be as they are")
    return Observations.concatenated(found)
