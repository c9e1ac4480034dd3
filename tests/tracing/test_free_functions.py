"""Functions that decide by shapes: called whole by the graph, so that they decide again."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport.runtime import guard
from tests.tracing.blocks import assert_equal, guarded, opened, program_of, x


def resample(table: Tensor, size: int) -> Tensor:
    """Position embeddings of another size, where they do not fit."""
    if table.shape[1] == size:
        return table
    return F.interpolate(table.mT, size, mode="linear").mT


def shift(x: Tensor) -> Tensor:
    """A residual addition that decides by a shape."""
    if x.shape[1] > 4:
        return x + x.tanh() * 0.1
    return x - x.tanh() * 0.1


class Positions(nn.Module):
    """A residual block with position embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(1, 6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x + resample(self.table, x.shape[1])).relu()


def test_a_function_decides_again_for_every_input() -> None:
    model = nn.Sequential(Positions(), Positions())
    for size in (6, 9):
        program = program_of(model, x(2, size, 8))
        assert {"0", "1"} <= opened(program)
        assert "resample" in program.code
        assert not any(n.target is guard for n in program.facts.graph.nodes)
        for other in (4, 6, 9):
            assert_equal(program, model, x(3, other, 8))


class Shifts(nn.Module):
    """Its addition is in a function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return shift(x) + self.linear(x).relu()


def test_a_function_with_a_residual_addition_is_traced() -> None:
    model = nn.Sequential(Shifts(), nn.Linear(8, 3))
    program = program_of(model, x(2, 6, 8))
    assert_equal(program, model, x(3, 7, 8))
    if any(n.target is guard for n in program.facts.graph.nodes):
        assert "test_free_functions.py" in guarded(program, model, x(3, 3, 8))
    else:
        assert_equal(program, model, x(3, 3, 8))
