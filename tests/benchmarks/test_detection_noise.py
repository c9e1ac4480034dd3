"""How the magnitude of noise is chosen, and what is moved."""

from collections.abc import Sequence

import detection_noise
import numpy as np
import pytest
import torch

from fxtransport import image_extractor
from fxtransport.detection.mahalanobis import MAGNITUDES, Mahalanobis
from tests.networks import Net


@pytest.mark.parametrize(
    ("best", "expected"), [(range(7), 0.0), ((2, 3), MAGNITUDES[2]), ((6,), MAGNITUDES[6])]
)
def test_the_smallest_of_the_best_magnitudes_is_taken(best: Sequence[int], expected: float) -> None:
    def score(magnitude: float) -> list[np.ndarray]:
        attacked = [2.0, 2.0] if MAGNITUDES.index(magnitude) in best else [2.0, 0.5]
        return [np.array([0.0, 1.0]), np.array(attacked)]

    assert detection_noise.best_magnitude(score) == expected


def test_only_the_layers_of_some_images_are_moved() -> None:
    net = Net(2)
    extract = image_extractor(
        net, torch.zeros(2, 3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, differentiable=True
    )
    images = torch.rand(60, 3, 8, 8)
    observed = extract.observe([images])
    gaussians = Mahalanobis().fit(observed, held_out=0)
    rows = np.array([3, 41])
    found = detection_noise.moved(gaussians, extract, observed, images, rows, 0.01)
    assert found.hashes == observed.hashes
    for name, values in observed.values.items():
        changed = np.flatnonzero((found[name] != values).any(1)).tolist()
        assert changed == ([3, 41] if name.startswith("layer.") else [])
    assert gaussians.distances(found)[rows].sum() < gaussians.distances(observed)[rows].sum()
    assert detection_noise.moved(gaussians, extract, observed, images, rows[:0], 1.0) is observed
