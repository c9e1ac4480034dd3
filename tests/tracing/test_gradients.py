"""Gradients that code switches on: only where the model differentiates, and then for all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.ir import Recording
from fxtransport.passes.record import Record
from tests.compiling import run_on
from tests.tracing.blocks import Adds, Apart, Function, assert_equal, net, program_of, x

SWITCHED: dict[str, Function] = {
    "with gradients": lambda m, x, y: with_gradients(y),
    "as in training": lambda m, x, y: set_as_training(m, y),
    "by a function": lambda m, x, y: torch.enable_grad()(torch.tanh)(y),
}


def with_gradients(y: Tensor) -> Tensor:
    with torch.enable_grad():
        y = (1 - y).type(torch.float64).float().clone()
        return y.clamp_(min=-1.0).add_(0.5) @ y.new_ones(8, 8)


def set_as_training(m: Any, y: Tensor) -> Tensor:
    with torch.set_grad_enabled(m.training):
        return torch.nn.functional.linear(y, y.new_ones(8, 8)).softmax(-1)


def assert_exact(function: Function, kind: Any) -> None:
    model = net(function, kind)
    assert_equal(program_of(model), model, x(5))


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("name", SWITCHED)
def test_switching_records_the_same(name: str, kind: Any) -> None:
    assert_exact(SWITCHED[name], kind)
    recording = run_on(net(SWITCHED[name], kind), (8,), Record()).fact(Recording)
    assert not recording.differentiates


def test_models_that_differentiate_are_noted() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(m.linear(point).square().sum(), point)
        return slope * y

    assert run_on(net(branch, Apart), (8,), Record()).fact(Recording).differentiates
    assert_exact(branch, Apart)
