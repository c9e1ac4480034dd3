"""A small network and images for it."""

import pytest
import torch
from torch import nn

from tests.program.nets import Net


@pytest.fixture
def net() -> Net:
    """A small network with trained-looking batch norms."""
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.weight.data.normal_()
    return net


@pytest.fixture
def images() -> torch.Tensor:
    """Five images."""
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
