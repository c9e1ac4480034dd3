"""The model and the process are as they were."""

import random
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fxtransport import transportify
from fxtransport.detection.attacks import PixelModel
from fxtransport.detection.attacks.undisturbed import undisturbed

CPU = torch.device("cpu")


def model() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[0].weight.grad = torch.ones(2, 2)
    return net


def test_modes_gradients_and_generators_are_kept() -> None:
    net = model()
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with undisturbed(net, CPU, seed=3):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
        inputs = torch.ones(2, 2, requires_grad=True)
        net(inputs).sum().backward()
        assert inputs.grad is not None
        first = random.random(), np.random.rand(), torch.rand(1).item()
    assert [module.training for module in net] == [True, False, True]
    assert net.training
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, False, True, True]
    assert torch.equal(net[0].weight.grad, torch.ones(2, 2))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    with undisturbed(net, CPU, seed=3):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_none(mode: Callable[[], object]) -> None:
    net = model()
    with mode():  # type: ignore[attr-defined]
        with undisturbed(net, CPU, seed=0):
            inputs = torch.ones(2, 2, requires_grad=True)
            [slope] = torch.autograd.grad(net(inputs).sum(), inputs)
            assert slope.shape == (2, 2)
        assert not torch.is_grad_enabled()


def test_all_is_kept_after_an_error() -> None:
    net = model()
    state = torch.get_rng_state()
    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError), undisturbed(net, CPU, seed=0):
        sys.settrace(None)
        raise ZeroDivisionError
    assert sys.gettrace() is before
    assert [module.training for module in net] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), state)


class Asks(nn.Module):
    """A residual block, twice as large while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        moved = self.layer(given.flatten(1))
        return given.flatten(1) + (2 * moved if self.training else moved)


def test_a_program_is_in_eval_mode_where_its_code_asks() -> None:
    images = torch.rand(3, 1, 2, 2)
    net = Asks().train()
    program = transportify(net, images)
    whole = PixelModel(program)
    trained, evaluated = whole(images), Asks.forward(net.eval(), images)
    program.train()
    torch.testing.assert_close(whole(images), trained)
    with undisturbed(whole, CPU, seed=0):
        torch.testing.assert_close(whole(images), evaluated)
    torch.testing.assert_close(whole(images), trained)
    assert not torch.equal(trained, evaluated)
    assert program.training
