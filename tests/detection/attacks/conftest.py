"""A small network that was trained on digits, and digits to attack it with."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxtransport.data import load
from fxtransport.detection.attacks import PixelModel


class Trained(NamedTuple):
    """A classifier of pixels, and what it was not trained on."""

    model: PixelModel
    images: Tensor
    labels: Tensor


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A network that is right about nine digits in ten; tests may not change it."""
    pixels = {"mean": (0.0,), "std": (1.0,)}
    splits = load("digits", seed=0, batch_size=64, eval_batch_size=360, transform=pixels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(1024, 10),
        )
        model = PixelModel(net, mean=(0.3,), std=(0.38,))
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for epoch in range(4):
            for images, labels in splits.train.epoch(epoch):
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
    [(images, labels)] = splits.test
    return Trained(model.eval(), images[:80], labels[:80])
