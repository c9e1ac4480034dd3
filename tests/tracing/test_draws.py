"""Random numbers of Python and NumPy are refused by name, whatever they happen to be."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import TraceError
from tests.tracing.blocks import Adds, Apart, Function, check, net, program_of, refused, remedied, x

PYTHON = "draws from Python's random in forward, which a graph would freeze; draw from torch"
NUMPY = "draws from numpy.random in forward"
DRAWS: dict[str, tuple[Function, str]] = {
    "random": (lambda m, x, y: y * (2 if random.random() < 0.5 else 1), PYTHON),
    "uniform": (lambda m, x, y: y * random.uniform(0, 1), PYTHON),
    "choice": (lambda m, x, y: y * random.choice([1, 2]), PYTHON),
    "shuffle": (lambda m, x, y: y * len(random.sample(range(9), 3)), PYTHON),
    "rand": (lambda m, x, y: y * float(np.random.rand()), NUMPY),
    "normal": (lambda m, x, y: y + np.random.normal(), NUMPY),
    "randint": (lambda m, x, y: y * int(np.random.randint(1, 4)), NUMPY),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("seed", range(3))
def test_draws_are_refused(name: str, seed: int) -> None:
    function, words = DRAWS[name]
    random.seed(seed)
    np.random.seed(seed)
    refused(function, words)


class LayerDrop(nn.Module):
    """Leaves out blocks in training, by a number that a function draws."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw
        self.blocks = nn.ModuleList(Adds(lambda m, x, y: y.relu()) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if self.training and self.draw() < 0.05:
                continue
            x = block(x)
        return x


@pytest.mark.parametrize("seed", range(5))
def test_layer_drop_is_refused_whatever_it_draws(seed: int) -> None:
    random.seed(seed)
    with pytest.raises(TraceError, match=r"draws from Python's random in forward, which a graph"):
        program_of(LayerDrop(lambda: random.uniform(0, 1)))


def test_draws_of_torch_stay_random() -> None:
    """The remedy: numbers of torch are drawn at each call."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        keep = torch.rand(()) < 0.5
        return torch.where(keep, y, torch.zeros_like(y)) * torch.rand(1)

    check(branch)
    program = check(lambda m, x, y: y * torch.rand(1))
    outputs = {tuple(program(x(2)).flatten().tolist()) for _ in range(10)}
    assert len(outputs) == 10


def test_a_closed_module_draws_by_itself() -> None:
    """The remedy: it draws at each call, as in the model."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * (1 + random.random() * m.training)

    refused(branch, "a module without a residual addition, which keeps its own code")
    model = net(branch, Apart)
    program = program_of(model, verify=False)
    random.seed(1)
    expected = model(x(3))
    random.seed(1)
    assert torch.equal(program(x(3)), expected)
    assert not torch.equal(program(x(3)), expected)


GENERATORS = [random.Random(0), np.random.default_rng(0), np.random.RandomState(0)]


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda g: type(g).__name__)
def test_generators_of_modules_are_refused(generator: Any) -> None:
    message = refused(
        lambda m, x, y: y * float(m.generator.random()),
        f"draws from self.generator, a {type(generator).__name__}",
        generator=generator,
    )
    assert "draw from torch (torch.rand)" in message


def test_seeds_are_not_set() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(17)
        return y * torch.rand(8)

    remedied(branch, "calls torch.manual_seed, which is about the state of a generator")


@pytest.mark.parametrize("name", ["get_rng_state", "initial_seed", "fork_rng"])
def test_the_state_of_generators_is_not_asked_for(name: str) -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * 2 if getattr(torch.random, name)() is not None else y

    remedied(branch, f"calls torch.{name}, which is about the state of a generator")


def test_torch_generators_are_refused() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * torch.rand(8, generator=torch.Generator().manual_seed(0))

    remedied(branch, "draws from a torch.Generator of its own")
