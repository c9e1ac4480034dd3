"""How far ODIN and Mahalanobis move images along the gradient, chosen on validation images.

The magnitudes are those of Lee et al. (2018). The one of the largest AUROC is taken, of several
the smallest: of clean images against images of FGM, both of a fifth of B1, on which the Gaussians
that are compared are not fitted. Where too few images of FGM count, there is no noise.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fxtransport.detection import Extractor, Observations
from fxtransport.detection.attacks import AttackedSet
from fxtransport.detection.mahalanobis import MAGNITUDES, Mahalanobis, layer_names
from fxtransport.detection.odin import OdinScores
from fxtransport.errors import UsageError

VALIDATION = 0.2
FEWEST = 5
"""Clean images, and counted ones of FGM, from which a magnitude is chosen."""

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


class Magnitudes(NamedTuple):
    """In units of pixels from 0 to 1."""

    odin: float
    mahalanobis: float


class Known(NamedTuple):
    """Images of B1.

    Attributes:
        clean: Of all images, as they were observed.
        fgm: All images after FGM.
        fitted: The rows of B1 that the Gaussians are fitted on.
        validation: The others.
    """

    clean: Observations
    fgm: AttackedSet
    fitted: Rows
    validation: Rows

    @classmethod
    def of(cls, clean: Observations, fgm: AttackedSet, rows: Rows, seed: int) -> Self:
        """Split the rows of B1."""
        order = np.random.default_rng(seed).permutation(rows)
        count = round(VALIDATION * len(rows))
        return cls(clean, fgm, np.sort(order[count:]), np.sort(order[:count]))

    def counted(self, rows: Rows) -> Rows:
        """Those of some rows that count as attacked by FGM."""
        return rows[self.fgm.outcome.counted[rows]]


def chosen(extractor: Extractor, known: Known) -> Magnitudes:
    """The magnitudes of a network.

    Args:
        extractor: Its extractor, with gradients.
        known: On which they are chosen.
    """
    clean = known.fgm.clean[torch.from_numpy(known.validation)]
    counted = known.counted(known.validation)
    if min(len(clean), len(counted)) < FEWEST:
        return Magnitudes(0.0, 0.0)
    images = (clean, known.fgm.attacked[torch.from_numpy(counted)])

    def by_odin(magnitude: float) -> list[Scores]:
        scores = OdinScores(extractor, magnitude)
        return [scores(extractor.place(some)).double().numpy()[:, 0] for some in images]

    return Magnitudes(best_magnitude(by_odin), _of_mahalanobis(extractor, known, images))


def _of_mahalanobis(extractor: Extractor, known: Known, images: tuple[Tensor, Tensor]) -> float:
    rows = torch.from_numpy(known.counted(known.fitted))
    if len(rows) < FEWEST:
        return 0.0
    fgm = extractor.observe([known.fgm.attacked[rows]])
    try:
        fitted = Mahalanobis("logistic").fit(known.clean.take(known.fitted), fgm, held_out=0)
    except UsageError:
        # its own cell says why it cannot be fitted
        return 0.0

    def by_mahalanobis(magnitude: float) -> list[Scores]:
        return [
            fitted.score(fitted.observe_with_noise(extractor, [some], magnitude)) for some in images
        ]

    return best_magnitude(by_mahalanobis)


def best_magnitude(score: Callable[[float], list[Scores]]) -> float:
    """The magnitude of the largest AUROC; of several, the smallest.

    Args:
        score: From a magnitude to the scores of clean and of attacked images.
    """
    found = {}
    for magnitude in MAGNITUDES:
        clean, attacked = score(magnitude)
        labels = np.repeat([0, 1], [len(clean), len(attacked)])
        found[magnitude] = round(roc_auc_score(labels, np.concatenate([clean, attacked])), 6)
    return max(sorted(found), key=lambda magnitude: found[magnitude])


def moved(
    gaussians: Mahalanobis,
    extractor: Extractor,
    observed: Observations,
    images: Tensor,
    rows: Rows,
    magnitude: float,
) -> Observations:
    """Observations with the layers of some images that are moved toward their Gaussians."""
    if not len(rows):
        return observed
    some = images[torch.from_numpy(rows)]
    found = gaussians.observe_with_noise(extractor, some.split(256), magnitude)
    values = dict(observed.values)
    for name in layer_names(observed):
        values[name] = values[name].copy()
        values[name][rows] = found[name]
    return Observations(values, observed.hashes, observed.sources)
