"""A backward pass node by node, against that of autograd's engine."""

from unittest import mock

import pytest
import torch
from torch import nn

from fxtransport import replay
from fxtransport.peaks import MemoryLog


class Cube(torch.autograd.Function):
    """x³, with a backward written in Python."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 3 * x**2 * gradient


class Net(nn.Module):
    """Skips, broadcasts, a shared layer, and a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.linear(x).relu() * self.scale
        cubed: torch.Tensor = Cube.apply(self.linear(y))
        return cubed + y.sum(1, keepdim=True)


@pytest.mark.parametrize("absent", [False, True])
def test_gradients_are_those_of_the_engine(absent: bool) -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(3, 4)
    expected = torch.autograd.grad(net(x).mean(), list(net.parameters()))
    log = MemoryLog()
    answer = mock.patch.object(replay, "is_absent", lambda _: absent)
    with answer, replay.replayed(torch.device("cpu"), log), log:
        net(x).mean().backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert len(log.backwards) == 1
