"""Models to trace, traces, and how the program that is made of one compares."""

import inspect

import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxtransport.passes.trace import Trace
from tests.compiling import assert_identical, compiled, forward, original, outcome, run_on


def traced(model: nn.Module, *shape: int, step: Trace | None = None) -> fx.Graph:
    return run_on(model, shape, step or Trace()).traced()


def assert_same(model: nn.Module, *inputs: Tensor, training: bool = False) -> None:
    """The lowered forward of a model, compiled for a batch of two, computes its numbers."""
    unit = compiled(model, *inputs[0].shape[1:])
    found = outcome(forward(unit), model, *inputs, training=training)
    assert_identical(found, outcome(original, model, *inputs, training=training))


def line_of(cls: type, text: str) -> str:
    """File and line of some source text of a class."""
    lines, first = inspect.getsourcelines(cls)
    line = first + next(i for i, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(cls)}:{line}"


class Wrapped(nn.Module):
    """A block in a model, so that it has a path."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.stage = nn.Sequential(block)

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x)


class Dropping(nn.Module):
    """A residual block that drops its branch by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.linear(x).relu(), 0.5, self.training)


class BranchesOnMode(nn.Module):
    """Decides by its training flag."""

    def __init__(self, in_train: float, in_eval: float) -> None:
        super().__init__()
        self.in_train, self.in_eval = in_train, in_eval
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        rate = self.in_train if self.training else self.in_eval
        return x + self.linear(x).relu() * rate
