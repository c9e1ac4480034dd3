"""Copies without data."""

import torch
from torch import nn

from fxtransport.fakes import without_data
from tests.networks import DigitsNet


def test_copies_have_shapes_and_no_data() -> None:
    net = DigitsNet()
    with without_data(torch.device("cpu")) as fakes:
        copied = fakes.copy(net)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert {name: tuple(p.shape) for name, p in copied.named_parameters()} == shapes
    for parameter in copied.parameters():
        assert isinstance(parameter, nn.Parameter)
        assert isinstance(parameter, torch._subclasses.FakeTensor)


def test_channels_last_is_a_matter_of_strides() -> None:
    with without_data(torch.device("cpu")) as fakes:
        copied = fakes.copy(nn.Conv2d(8, 8, 3), channels_last=True)
    assert copied.weight.is_contiguous(memory_format=torch.channels_last)
