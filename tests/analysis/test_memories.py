"""Copies that may be none: what is added in place to one may be written to the other."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.ir import Taps
from fxtransport.passes.taps import TapResidues
from fxtransport.runtime import add_out_of_place
from tests.compiling import run_on
from tests.tracing.blocks import assert_equal

LOW = torch.bfloat16


def converted(h: Tensor, x: Tensor) -> Tensor:
    y = h.to(LOW)
    y += x
    return (y + h).float()


def source_written(h: Tensor, x: Tensor) -> Tensor:
    y = h.to(LOW)
    h += x
    return y + h


def twice(h: Tensor, x: Tensor) -> Tensor:
    y = h.bfloat16().type(LOW)
    y += x
    return (y + h).float()


def laid_out(h: Tensor, x: Tensor) -> Tensor:
    y = h.mT.contiguous()
    y += x.mT
    return y.mT + h * 0.5


def reshaped(h: Tensor, x: Tensor) -> Tensor:
    y = h.mT.reshape(-1, len(h))
    y += x.mT
    return y.mT * h


def viewed(h: Tensor, x: Tensor) -> Tensor:
    y = h.to(LOW)
    y += x
    return y.float() + h[:, :1]


def returned(h: Tensor, x: Tensor) -> Tensor:
    h.to(LOW).add_(x)
    return h + x


PERHAPS = [converted, source_written, twice, laid_out, reshaped, viewed, returned]


class Block(nn.Module):
    """A residual block that adds in place to what may be a copy."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.linear(x), x)


class Net(nn.Module):
    """Two blocks, of inputs in some layout."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(function), Block(function))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).float())


@pytest.mark.parametrize("function", PERHAPS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_copies_that_are_none(function: Callable[[Tensor, Tensor], Tensor], batch: int) -> None:
    """For one row a transposed matrix is contiguous; under autocast, layers have its dtype."""
    model = Net(function)
    program = transportify(copy.deepcopy(model), torch.zeros(2, 8), verify=False)
    x = torch.randn(batch, 8)
    assert_equal(program, model, x)
    with torch.autocast("cpu", dtype=LOW):
        assert_equal(program, model, x)


def test_residues_next_to_copies_that_are_none() -> None:
    """The skip is kept as it was, where the sum is written over it."""

    def function(h: Tensor, x: Tensor) -> Tensor:
        y = x.to(LOW)
        y += h.to(LOW)
        return y

    model = Net(function).eval()
    program = transportify(copy.deepcopy(model), torch.zeros(2, 8), verify=False).eval()
    x = torch.randn(3, 8)
    first = model.get_submodule("blocks.0.linear")
    with torch.autocast("cpu", dtype=LOW):
        x = x.to(LOW)
        residue = program.transport(x.clone()).residues[0]
        assert torch.equal(residue.to(LOW), first(x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (converted, False),
        (lambda h, x: h.clone().add_(x) * h, True),
        (lambda h, x: torch.clone(h).add_(x) * h, True),
        (lambda h, x: h.to(LOW).add_(x), True),
        (lambda h, x: h.to(LOW).add_(x) * h.to(LOW), False),
    ],
)
def test_which_additions_become_out_of_place(
    function: Callable[[Tensor, Tensor], Tensor], expected: bool
) -> None:
    """Those whose memory nothing else may have: a clone is a copy, whatever it is given."""
    unit = run_on(Net(function), (8,), TapResidues())
    targets = [n.target for n in unit.traced().nodes]
    assert unit.fact(Taps).found
    assert (add_out_of_place in targets) == expected
