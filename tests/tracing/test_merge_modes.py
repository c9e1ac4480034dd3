"""One graph of two traces: conditional nodes, choices, and what they cost."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxtransport.errors import TraceError
from fxtransport.passes.trace import Trace
from fxtransport.runtime import Conditional, choose, run_if
from tests.compiling import run_on
from tests.tracing.blocks import Adds, Function, assert_equal, net, program_of, x


def targets(function: Function) -> list[Any]:
    """What the graph of a block calls."""
    graph: fx.Graph = run_on(net(function), (8,), Trace()).traced()
    return [node.target for node in graph.nodes if node.op.startswith("call_")]


def test_constants_become_choices() -> None:
    called = targets(lambda m, x, y: y * (0.5 if m.training else 2.0))
    assert called.count(choose) == 2
    assert not any(isinstance(target, Conditional) for target in called)


@pytest.mark.parametrize("training", [True, False])
def test_operations_of_one_mode_are_conditional(training: bool) -> None:
    called = targets(lambda m, x, y: y.tanh() if m.training == training else y)
    assert sum(isinstance(target, Conditional) for target in called) == 2


def test_modules_of_one_mode_are_not_called_in_the_other() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.modes: list[bool] = []

        def forward(self, x: Tensor) -> Tensor:
            self.modes.append(self.training)
            return x * 2

    model = net(lambda m, x, y: y if m.training else m.counts(y), counts=Counts())
    program = program_of(model)
    counts = program.get_submodule("0.counts")
    assert isinstance(counts, Counts)
    counts.modes.clear()
    program.train()(x(3))
    assert counts.modes == []
    program.eval()(x(3))
    assert counts.modes == [False]
    assert run_if in targets(lambda m, x, y: y if m.training else nn.Identity()(m.linear(y)))


def test_structures_are_merged_inside() -> None:
    model = net(
        lambda m, x, y: (
            torch.cat([y, x] if m.training else [x, y], 1)[:, :8]
            + torch.stack((y, 2 * y if m.training else y)).sum(0)
        )
    )
    assert_equal(program_of(model), model, x(5))


FORMS: dict[str, Function] = {
    "fewer arguments": lambda m, x, y: (
        y.view(len(y), 2, 4).mT.reshape(y.shape) if m.training else y.view(len(y), 8)
    ),
    "one tuple": lambda m, x, y: y[:, None].permute(*((0, 1, 2) if m.training else ((0, 1, 2),)))[
        :, 0
    ],
    "another keyword": lambda m, x, y: (
        F.softmax(y, 1, dtype=torch.float32) if m.training else F.softmax(y, dim=1)
    ),
    "one more keyword": lambda m, x, y: m.linear(y).clamp(
        **({"min": -0.1, "max": 0.5} if m.training else {"min": 0.1})
    ),
}
"""Operations that are called in two forms, one in each mode."""


@pytest.mark.parametrize("name", FORMS)
def test_calls_in_two_forms_are_two_nodes(name: str) -> None:
    model = net(FORMS[name])
    assert_equal(program_of(model), model, x(5))


KINDS: dict[str, Function] = {
    "integer": lambda m, x, y: y * torch.full((8,), 3 if m.training else 3.0).div(2).dtype.itemsize,
    "bool": lambda m, x, y: y * (torch.full((8,), 1 if m.training else True).sum() / 16),
    "sign of zero": lambda m, x, y: y.div(torch.full((8,), 0.0 if m.training else -0.0)).clamp(
        -2, 2
    ),
    "in a structure": lambda m, x, y: y / torch.tensor([0.0 if m.training else -0.0, 2.0])[:1],
}
"""Numbers that are equal in both modes, and not the same."""


@pytest.mark.parametrize("name", KINDS)
def test_numbers_of_two_kinds_become_choices(name: str) -> None:
    model = net(KINDS[name])
    assert_equal(program_of(model, verify=False), model, x(5))


class AddsInEval(nn.Module):
    """Adds its residual in one mode only."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.linear, self.both = nn.Linear(8, 8), both

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x).relu()
        return x + y if self.both or not self.training else y


def test_an_addition_in_eval_mode_only() -> None:
    """There would be nothing to measure in training; the remedy is to add in both modes."""
    with pytest.raises(TraceError, match=r"^0 adds its residual in eval mode only.*in both modes"):
        program_of(nn.Sequential(AddsInEval(both=False), nn.Linear(8, 3)))
    model = nn.Sequential(AddsInEval(both=True), nn.Linear(8, 3))
    assert_equal(program_of(model), model, x(5))


def test_residues_are_right_in_both_modes() -> None:
    model = net(lambda m, x, y: y.relu() if m.training else y.tanh())
    program = program_of(model)
    first = model[0]
    assert isinstance(first, Adds)
    for training in (True, False):
        program.train(training), model.train(training)
        residue = program.transport(x(5)).residues[0]
        expected = first.linear(x(5))
        assert torch.equal(residue, expected.relu() if training else expected.tanh())
