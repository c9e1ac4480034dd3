"""Residual blocks made of a function, how their programs compare, and how they are refused."""

import copy
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fxtransport import Program, transportify
from fxtransport.errors import GuardError, TraceError
from tests.compiling import assert_identical

Function = Callable[[Any, Tensor, Tensor], Any]
"""Of a module, what it is given, and what its linear layer makes of that."""
WIDTH = 8


class Closed(nn.Module):
    """What a function computes; such a module is not opened."""

    def __init__(self, function: Function, **attributes: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, copy.deepcopy(value))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x, self.linear(x))


class Adds(Closed):
    """A residual block whose branch a function computes; such a module is opened."""

    def forward(self, x: Tensor) -> Any:
        return x + self.function(self, x, self.linear(x))


class Apart(nn.Module):
    """A residual block whose branch is a closed module."""

    def __init__(self, function: Function, **attributes: Any) -> None:
        super().__init__()
        self.branch = Closed(function, **attributes)

    def forward(self, x: Tensor) -> Any:
        return x + self.branch(x)


def net(function: Function, kind: Callable[..., nn.Module] = Adds, **attributes: Any) -> nn.Module:
    """Two blocks and a classifier."""
    blocks = (kind(function, **attributes) for _ in range(2))
    return nn.Sequential(*blocks, nn.Linear(WIDTH, 3))


def program_of(model: nn.Module, *inputs: Any, **options: Any) -> Program:
    """A verified program of a copy of a model, which shares nothing with it."""
    return transportify(copy.deepcopy(model), inputs or (torch.zeros(2, WIDTH),), **options)


def outcome(call: nn.Module, inputs: tuple[Any, ...], seed: int = 0) -> tuple[Any, ...]:
    """What a model returns and leaves: outputs, gradients, buffers."""
    given = [
        x.clone().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for x in inputs
    ]
    call.zero_grad()
    torch.manual_seed(seed)
    output = call(*given)
    floats = [
        leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad
    ]
    sum((leaf.float().square().sum() for leaf in floats), torch.zeros(())).backward()
    parameters = dict(call.named_parameters())
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in parameters.items()}
    inner = [x.grad if isinstance(x, Tensor) else None for x in given]
    buffers = {name: b.clone() for name, b in call.named_buffers()}
    return output, gradients, inner, buffers


def assert_equal(program: Program, model: nn.Module, *inputs: Any) -> None:
    """Outputs, gradients and buffers are the model's, bit for bit, in both modes, twice."""
    assert next(iter(program.parameters())) is not next(iter(model.parameters())), "share nothing"
    for training in (False, True):
        program.train(training)
        model.train(training)
        for seed in range(2):
            found, expected = outcome(program, inputs, seed), outcome(model, inputs, seed)
            assert_identical(found, expected)


def assert_same(model: nn.Module, *inputs: Any, example: tuple[Any, ...] = ()) -> Program:
    """A program compiles, and is the model, at the example's and at another batch size."""
    program = program_of(model, *(example or inputs))
    assert_equal(program, model, *inputs)
    return program


def x(batch: int = 3, *shape: int) -> Tensor:
    """An input."""
    return torch.randn(batch, *(shape or (WIDTH,)), generator=torch.Generator().manual_seed(batch))


def check(function: Function, example: Tensor | None = None, **attributes: Any) -> Program:
    """Blocks of a function compile for a batch of two, and compute the same for five."""
    example = x(2) if example is None else example
    model = net(function, **attributes)
    program = program_of(model, torch.zeros_like(example))
    assert {"0", "1"} <= opened(program), "the function is in the graph"
    assert_equal(program, model, x(5, *example.shape[1:]))
    return program


def opened(program: Program) -> set[str]:
    """The modules whose own code is in the graph."""
    return {r.path for r in program.facts.residuals if r.tapped}


def refused(
    function: Function, *words: str, example: Tensor | None = None, **attributes: Any
) -> str:
    """Blocks of a function are refused by the path, the line and these words."""
    places = {
        f"{Path(code.co_filename).name}:{line}"
        for code in codes(function)
        for *_, line in code.co_lines()
    }
    with pytest.raises(TraceError) as caught:
        program_of(net(function, **attributes), x(2) if example is None else example)
    message = str(caught.value)
    assert any(f"0 (Adds) at {place} " in message for place in places), message
    for word in words:
        assert word in message
    return message


def codes(function: Any) -> Iterator[CodeType]:
    """The code of a function, and of the functions of this folder that it calls."""
    yield function.__code__
    variables = inspect.getclosurevars(function)
    for inner in (*variables.globals.values(), *variables.nonlocals.values()):
        if isinstance(inner, FunctionType) and inner.__module__.startswith("tests."):
            yield from codes(inner)


def remedied(function: Function, *words: str, **attributes: Any) -> None:
    """Blocks of a function are refused, and not where the function is in a closed module."""
    message = refused(function, *words, **attributes)
    assert "move this code to a module without a residual addition" in message
    assert_same(net(function, Apart, **attributes), x(5), example=(x(2),))


def guarded(program: Program, model: nn.Module, *inputs: Any) -> str:
    """Inputs that the model takes, and the program refuses: what it says."""
    model(*inputs)
    with pytest.raises(GuardError) as caught:
        program(*inputs)
    return str(caught.value)
