import pytest
import torch

from fxtransport.detection.gray import gray
from fxtransport.errors import UsageError


def test_luma_of_three_channels() -> None:
    image = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    assert gray(image).item() == pytest.approx(0.299 + 0.587 / 2 + 0.114 / 4)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_mean_of_other_channels(channels: int) -> None:
    images = torch.rand(2, channels, 3, 3)
    torch.testing.assert_close(gray(images), images.mean(1, keepdim=True))


def test_half_precision_becomes_single() -> None:
    assert gray(torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 8, 8),
        torch.zeros(1, 0, 8, 8),
        torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
    ],
)
def test_what_are_no_images(images: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="images are N×C×H×W floating-point numbers"):
        gray(images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_image_that_holds_no_numbers_is_named(value: float) -> None:
    images = torch.zeros(3, 1, 2, 2)
    images[2, 0, 0, 1] = value
    with pytest.raises(UsageError, match="image 2 holds NaN or infinities"):
        gray(images)
