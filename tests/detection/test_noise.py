"""Noise is seeded, of a given size, and leaves pixels between 0 and 1."""

import pytest
import torch

from fxtransport.detection.noise import noisy_copies
from fxtransport.errors import UsageError


def test_noise_has_the_size_that_is_asked_for() -> None:
    images = torch.full((6, 3, 8, 8), 0.5)
    sizes = torch.arange(6) / 10
    state = torch.get_rng_state()
    found = noisy_copies(images, sizes, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close((found - images).flatten(1).norm(dim=1), sizes)
    assert torch.equal(found[0], images[0])
    assert torch.equal(noisy_copies(images, sizes, seed=0), found)
    assert not torch.equal(noisy_copies(images, sizes, seed=1), found)
    same = noisy_copies(images, 0.3, seed=0)
    torch.testing.assert_close(same[3], found[3])


def test_pixels_stay_between_0_and_1() -> None:
    images = torch.rand(4, 1, 8, 8).round()
    found = noisy_copies(images, 2.0, seed=0)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found - images).flatten(1).norm(dim=1).max() < 2


@pytest.mark.parametrize("size", [-1.0, float("nan"), torch.ones(3), torch.ones(4, 1)])
def test_sizes_are_checked(size: torch.Tensor | float) -> None:
    with pytest.raises(UsageError, match="noise"):
        noisy_copies(torch.rand(4, 1, 8, 8), size, seed=0)
