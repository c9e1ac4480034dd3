"""The logit-layer test: by hand, and its masks."""

import numpy as np
import pytest
import torch

from fxtransport import image_extractor
from fxtransport.detection.stability import MASKS, LogitStability
from fxtransport.errors import UsageError
from tests.networks import Net


def test_scores_are_those_by_hand() -> None:
    extract = image_extractor(Net(2), torch.zeros(2, 3, 8, 8), mean=(0.4,) * 3, std=(0.3,) * 3)
    images = torch.rand(5, 3, 8, 8)
    test = LogitStability(extract, masks=2, strength=0.5)
    observed = extract.observe([images[:3], images[3:]], further={"stability": test})
    masked = [extract.observe([images * mask]) for mask in test.masks(images)]
    for row in range(5):
        softmax = np.exp(observed["logits"][row].astype(float))
        softmax /= softmax.sum()
        chosen = np.eye(len(softmax))[softmax.argmax()]
        entropy = -(softmax * np.log(softmax)).sum()
        found = []
        for other in masked:
            moved = np.exp(other["logits"][row].astype(float))
            shift = ((moved / moved.sum() - chosen) ** 2).mean() * entropy
            for name in [key for key in observed.values if key.startswith("layer.")]:
                layer = ((other[name][row] - observed[name][row]).astype(float) ** 2).mean()
                found.append(np.log(shift + 1e-8) - np.log(layer + 1e-8))
        assert observed["stability"].shape == (5, 1)
        np.testing.assert_allclose(observed["stability"][row, 0], np.mean(found), rtol=1e-3)


def test_masks_darken_and_are_always_the_same() -> None:
    extract = image_extractor(Net(), torch.zeros(2, 3, 8, 8))
    images = torch.rand(2, 3, 8, 8)
    masks = LogitStability(extract, strength=0.2).masks(images)
    assert masks.shape == (MASKS, 3, 8, 8)
    assert masks.min() >= 0.8
    assert masks.max() <= 1
    assert masks.std() > 0.05
    torch.rand(3)
    assert torch.equal(masks, LogitStability(extract, strength=0.2).masks(images))
    assert not torch.equal(masks, LogitStability(extract, strength=0.2, seed=1).masks(images))


def test_settings_are_checked() -> None:
    extract = image_extractor(Net(), torch.zeros(2, 3, 8, 8))
    for options in ({"masks": 0}, {"strength": 0.0}, {"strength": 1.1}, {"strength": float("nan")}):
        with pytest.raises(UsageError, match="masks is 1 or more and strength above 0"):
            LogitStability(extract, **options)
