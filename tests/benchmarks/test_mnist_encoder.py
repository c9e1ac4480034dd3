"""Encoders of MNIST: normalized images, and a frozen encoder of an autoencoder."""

import mnist_encoder
import pytest
import torch
from mnist import draw
from torch import nn


def test_normalized_images_have_mean_0_and_standard_deviation_1() -> None:
    drawn = mnist_encoder.normalize(draw(1500, 500, 0, device="cpu"))
    assert drawn.train.images.mean().abs() < 0.02
    assert abs(drawn.train.images.std() - 1) < 0.02
    assert len(drawn.test.classes) == 500


def test_the_pretrained_encoder_is_frozen_and_always_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mnist_encoder, "EPOCHS", 1)
    monkeypatch.setattr(mnist_encoder, "RESERVED", 50)
    make = mnist_encoder.pretrained.__wrapped__
    drawn = draw(20, 10, 0, device="cpu")
    torch.manual_seed(0)
    first = mnist_encoder.encoded(drawn, make())
    after = torch.rand(1)
    torch.manual_seed(1)
    encoder: nn.Module = make()
    second = mnist_encoder.encoded(drawn, encoder)
    assert first.train.images.shape == (20, 32, 14, 14)
    assert torch.equal(first.test.images, second.test.images)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)  # what comes next is drawn as without it
