"""Nodes in words: expressions as Python writes them, shapes in terms of the batch."""

import pytest
import torch
from torch import Tensor, nn

from fxtransport.ir import HeadKind
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.trace import Trace
from fxtransport.report.nodes import expression, holds_tensors, part_numbers, shape_text
from fxtransport.unit import Unit
from tests.compiling import run_on
from tests.patterns import PATTERNS

HEADLESS = PlanHeads(HeadKind.NONE)
"""The patterns return maps, not logits."""


class Spells(nn.Module):
    """Operations in every spelling, around a residual that keeps the module open."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.fc(x)
        windows = x.reshape(x.shape[0] * 2, -1)
        return torch.cat([windows[:, 1:], windows[..., ::2]], dim=1) * self.scale.sum()


@pytest.fixture(scope="module")
def unit() -> Unit:
    return run_on(Spells(), (4,), Trace())


def test_expressions_are_python(unit: Unit) -> None:
    expressions = {node.name: expression(node) for node in unit.traced().nodes}
    assert expressions["x"] == "input"
    assert expressions["fc"] == "self.fc(x)"
    assert expressions["add"] == "add(x, fc)"
    assert expressions["shape"] == "add.shape"
    assert expressions["getitem"] == "shape[0]"
    assert expressions["reshape"] == "add.reshape(mul, -1)"
    assert expressions["getitem_1"] == "reshape[:, 1:]"
    assert expressions["getitem_2"] == "reshape[Ellipsis, ::2]"
    assert expressions["cat"] == "cat([getitem_1, getitem_2], dim=1)"
    assert expressions["scale"] == "self.scale"
    assert expressions["output"] == "return mul_1"


def test_shapes_are_multiples_of_the_batch(unit: Unit) -> None:
    shapes = {node.name: shape_text(unit, node) for node in unit.traced().nodes}
    assert (shapes["add"], shapes["reshape"], shapes["shape"]) == ("B×4", "2B×2", "")
    assert shapes["scale"] == "4", "a parameter has no batch"


def test_sizes_and_parameters_are_no_data(unit: Unit) -> None:
    kept = [node.name for node in unit.traced().nodes if holds_tensors(unit, node)]
    assert {"x", "fc", "add", "cat", "output"} <= set(kept)
    assert not {"shape", "getitem", "mul", "scale"} & set(kept)


def test_nodes_are_numbered_by_part() -> None:
    pattern = PATTERNS["ResidualInsideResidual"]()
    cut = run_on(pattern, pattern.shape, HEADLESS, Partition(2))
    numbers = part_numbers(cut)
    assert list(numbers) == [node.name for node in cut.traced().nodes]
    assert sorted(set(numbers.values())) == [0, 1]
    assert list(numbers.values()) == sorted(numbers.values())
    assert set(part_numbers(run_on(pattern, pattern.shape, Trace())).values()) == {0}
