"""Normalization is inside, and logits are found."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.detection.attacks import PixelModel
from fxtransport.errors import UsageError


class Returns(nn.Module):
    """Returns the mean of each channel in some way."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, images: Tensor) -> Any:
        return self.how(images.mean((2, 3)))


def test_images_are_normalized_by_channel() -> None:
    model = PixelModel(Returns(lambda logits: logits), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
    images = torch.rand(4, 3, 5, 5)
    expected = (images.mean((2, 3)) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 1, 2])
    torch.testing.assert_close(model(images), expected)


def test_logits_are_found_among_what_is_returned() -> None:
    images = torch.rand(4, 3, 5, 5)
    model = PixelModel(Returns(lambda logits: {"logits": logits, "loss": None}))
    torch.testing.assert_close(model(images), images.mean((2, 3)))


@pytest.mark.parametrize("how", [lambda z: (z, z), lambda z: z[0], lambda z: z[..., None]])
def test_what_is_no_classifier_is_refused(how: Any) -> None:
    with pytest.raises(UsageError, match="Returns does not return logits of shape B×classes"):
        PixelModel(Returns(how))(torch.rand(4, 3, 5, 5))


@pytest.mark.parametrize(("mean", "std"), [((0.0,), (0.0,)), ((0.0,), (1.0, 1.0)), ((), (-1.0,))])
def test_deviations_are_checked(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="with deviations above 0"):
        PixelModel(nn.Identity(), mean, std)
