"""Recordings: every operation with its module, values in single-assignment form."""

import pytest
import torch
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.ir import ALIAS, Recording
from fxtransport.passes.record import Record
from tests.compiling import assert_identical, run_on


def recorded(model: nn.Module, *shape: int) -> Recording:
    return run_on(model, shape, Record()).fact(Recording)


class Block(nn.Module):
    """Convolution and activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.relu(self.conv(x))
        return self.relu(x)


def test_operations_know_their_module() -> None:
    found = recorded(nn.Sequential(Block(), Block()), 4, 8, 8)
    names = [(found.path(i), op.name) for i, op in enumerate(found.ops)]
    once = [("conv", "convolution"), ("relu", "relu_"), ("", "add"), ("relu", "relu_")]
    assert names == [(f"{k}.{path}".strip("."), op) for k in (0, 1) for path, op in once]
    assert [call.path for call in found.calls[:5]] == ["", "0", "0.conv", "0.relu", "0.relu"]
    assert [call.parent for call in found.calls[:5]] == [None, 0, 1, 1, 1]
    assert [call.first for call in found.calls[:5]] == [0, 0, 0, 1, 3]


def test_every_value_is_computed_once() -> None:
    found = recorded(nn.Sequential(Block(), Block()), 4, 8, 8)
    outputs = [value for op in found.ops for value in op.outputs]
    assert len(outputs) == len(set(outputs))
    for i, op in enumerate(found.ops):
        assert all(found.producer[value] == i for value in op.outputs)
        # an operation reads what earlier ones computed
        assert all((found.producer[v] is None) or found.producer[v] < i for v in op.inputs)
        assert all(i in found.uses[v] for v in op.inputs)


def test_what_the_input_reaches_depends_on_it() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            scale = self.weight.exp()
            return x * scale

    found = recorded(Half(), 4)
    depends = {op.name: found.depends[op.outputs[0]] for op in found.ops}
    assert depends == {"exp": False, "mul": True}


class WritesAView(nn.Module):
    """Writes one half of a tensor and returns the whole."""

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.zeros(2, 4)
        half = whole[:, :2]
        half += x
        return whole * 2


def test_a_tensor_written_through_a_view_is_read_anew() -> None:
    found = recorded(WritesAView(), 2)
    names = [op.name for op in found.ops]
    assert names[-3:] == ["add_", ALIAS, "mul"]
    add = names.index("add_")
    alias, product = found.ops[add + 1], found.ops[add + 2]
    assert found.ops[add].writes
    assert alias.inputs[1] == found.ops[add].outputs[0]
    assert product.inputs == alias.outputs
    assert found.depends[product.outputs[0]]
    storages = {found.storages[v] for v in (*alias.inputs, *alias.outputs)}
    assert len(storages) == 1


def test_operations_in_place_make_new_values_of_one_storage() -> None:
    found = recorded(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), 4)
    linear, relu = found.ops[-2:]
    assert (relu.name, relu.base_name, relu.writes) == ("relu_", "relu", True)
    assert relu.outputs != linear.outputs
    assert found.storages[relu.outputs[0]] == found.storages[linear.outputs[0]]
    assert found.outputs == relu.outputs


class Scaled(nn.Module):
    """Gives numbers by position and by keyword."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.add(x, x, alpha=2).lerp(x, 0.5), x], dim=-1)


def test_numbers_among_the_arguments_are_known() -> None:
    add, lerp, stack = recorded(Scaled(), 4).ops
    assert (add.constants, dict(add.keywords)) == ((), {"alpha": 2})
    assert (lerp.constants, dict(lerp.keywords)) == ((0.5,), {})
    assert (stack.constants, len(stack.inputs)) == ((-1,), 2)


def test_arguments_of_calls_are_known() -> None:
    found = recorded(nn.Sequential(Block(), Block()), 4, 8, 8)
    second = next(call for call in found.calls if call.path == "1")
    before = found.ops[second.first - 1]
    assert second.inputs == frozenset(before.outputs)
    assert found.shapes[before.outputs[0]] == (2, 4, 8, 8)


def test_nothing_is_kept_running() -> None:
    before = nn.Module.__call__
    recorded(Block(), 4, 8, 8)
    assert nn.Module.__call__ is before
    assert torch.empty(1).device.type == "cpu"


class Chooses(nn.Module):
    """A module that chooses between two functions by the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        chosen: Tensor = torch.cond(x.sum() > 0, torch.sin, torch.cos, (self.linear(x),))
        return chosen


class Differentiates(nn.Module):
    """A module that computes the gradient of what its layer makes, as networks of energies do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.linear(point).pow(2).sum(), point)
        return self.linear(slope)


class Skips(nn.Module):
    """A residual block around a module."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


# torch.cond looks at the gradients of its operands, and torch warns of that
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("kind", [Chooses, Differentiates])
def test_modules_that_choose_or_differentiate(kind: type[nn.Module]) -> None:
    """The operator that is given functions is one operation; gradients are computed."""
    model = nn.Sequential(Skips(kind()), Skips(kind()), nn.Linear(4, 2))
    x = torch.randn(5, 4)
    program = transportify(model, x)
    assert len(program.facts.residuals) == 2
    assert_identical(program(x), model(x))
    assert_identical(program(-x), model(-x))
