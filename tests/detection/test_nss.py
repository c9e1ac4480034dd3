import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import gamma
from sklearn.datasets import load_digits

from fxtransport.detection.nss import asymmetric, normalized, nss, resized, symmetric


def test_normalized_pixels_by_hand() -> None:
    """By SciPy's filters: a Gaussian of σ = 7/6 on 7×7 pixels."""
    pixels = np.random.default_rng(0).uniform(0, 255, (12, 9))

    def blurred(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 7 / 6, radius=3, mode="nearest")

    mean = blurred(pixels)
    deviation = np.sqrt(np.abs(blurred(pixels**2) - mean**2))
    expected = (pixels - mean) / (deviation + 1)
    found = normalized(torch.from_numpy(pixels)[None, None])[0, 0].numpy()
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape", "scale"), [(2.0, 1.0), (1.0, 0.5), (0.6, 2.0), (4.0, 1.0)])
def test_shape_and_variance_of_generalized_normal_samples(shape: float, scale: float) -> None:
    """|x|^shape of such a sample, over scale^shape, is a gamma variable of shape 1/shape."""
    generator = np.random.default_rng(0)
    sizes = scale * generator.gamma(1 / shape, size=200_000) ** (1 / shape)
    samples = sizes * generator.choice([-1, 1], size=len(sizes))
    found = symmetric(torch.from_numpy(samples)[None])[0]
    assert found[0].item() == pytest.approx(shape, rel=0.03)
    assert found[1].item() == pytest.approx(
        scale**2 * gamma(3 / shape) / gamma(1 / shape), rel=0.03
    )


@pytest.mark.parametrize(("shape", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 0.5, 2.0)])
def test_asymmetric_samples(shape: float, left: float, right: float) -> None:
    generator = np.random.default_rng(0)
    negative = generator.random(200_000) < left / (left + right)
    sizes = generator.gamma(1 / shape, size=len(negative)) ** (1 / shape)
    samples = np.where(negative, -left, right) * sizes
    found = asymmetric(torch.from_numpy(samples)[None])[0].tolist()
    spread = gamma(3 / shape) / gamma(1 / shape)
    mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
    assert found[0] == pytest.approx(shape, rel=0.03)
    assert found[1] == pytest.approx(mean, rel=0.03, abs=0.01)
    assert found[2] == pytest.approx(left**2 * spread, rel=0.03)
    assert found[3] == pytest.approx(right**2 * spread, rel=0.03)


def test_samples_of_one_sign_by_hand() -> None:
    """E|x|²/E[x²] of 1 and 3 is 4/5, and one side is empty: the ratio is that of the shape."""
    shape, mean, left, right = asymmetric(torch.tensor([[1.0, 3.0]], dtype=torch.float64))[
        0
    ].tolist()
    ratio = gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape))
    assert (left, right) == pytest.approx((0, 5))
    if shape < 10:
        assert ratio == pytest.approx(0.8, abs=1e-3)
    expected = math.sqrt(5) * gamma(2 / shape) / math.sqrt(gamma(1 / shape) * gamma(3 / shape))
    assert mean == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 2, 2), (1, 1, 1), (1, 28, 28), (3, 33, 17)])
def test_flat_images_have_numbers(size: tuple[int, int, int]) -> None:
    for level in (0.0, 0.3, 1.0):
        found = nss(torch.full((2, *size), level))
        assert found.shape == (2, 36)
        assert found.isfinite().all()
        assert found[0].tolist() == ([10, 0] + [10, 0, 0, 0] * 4) * 2


def test_every_digit_has_numbers() -> None:
    images = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
    found = nss(images)
    assert found.isfinite().all()
    assert (found[:, 1] > 0).all()


def test_one_bright_pixel() -> None:
    for at in range(64):
        image = torch.zeros(1, 1, 8, 8)
        image.view(-1)[at] = 1
        assert nss(image).isfinite().all()


def test_images_do_not_see_each_other() -> None:
    images = torch.rand(70, 3, 16, 16)
    torch.testing.assert_close(nss(images)[65:66], nss(images[65:66]))
    assert nss(images[:0]).shape == (0, 36)


@pytest.mark.parametrize("size", [(9, 2), (8, 3), (9, 9), (2, 9)])
def test_halves_of_narrow_images(size: tuple[int, int]) -> None:
    """A transposed image has the transposed half."""
    images = torch.rand(2, 1, *size, dtype=torch.float64)
    half = [each // 2 for each in size]
    across = resized(images.mT.contiguous(), *half[::-1]).mT
    torch.testing.assert_close(resized(images, *half), across)
