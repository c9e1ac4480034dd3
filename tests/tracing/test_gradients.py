"""Gradients that code switches on: only where the model differentiates, and then for all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import TraceError
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


def nested(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        before = m.linear(y)
        with torch.enable_grad():
            inside = m.linear(before)
        after = m.linear(inside)
    return before + inside + after


def by_hand(m: Any, x: Tensor, y: Tensor) -> Tensor:
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    inside = m.linear(y).tanh()
    torch.set_grad_enabled(before)
    return inside * m.linear(y)


def transposed(m: Any, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        constant = y.mT
    with torch.enable_grad():
        weight = m.linear.weight.T
    return y @ weight + constant.mT


def attending(m: Any, x: Tensor, y: Tensor) -> Any:
    """Attention has a faster kernel for inference, which rounds otherwise."""
    with torch.enable_grad():
        return m.attention(y[None], y[None], y[None], need_weights=False)[0][0]


FORCED: dict[str, Function] = {
    **SWITCHED,
    "inside no_grad": nested,
    "by hand": by_hand,
    "attributes": transposed,
    "a faster kernel": attending,
    "a decorated function": torch.enable_grad()(lambda m, x, y: m.linear(y) * y.shape[0]),
}


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("name", FORCED)
def test_gradients_are_on_wherever_the_program_runs(name: str, kind: Any) -> None:
    model = net(FORCED[name], kind, attention=nn.MultiheadAttention(8, 2, batch_first=True))
    program = program_of(model)
    assert_equal(program, model, x(5))
    for training in (False, True):
        program.train(training), model.train(training)
        with torch.no_grad():
            found, expected = program(x(5)), model(x(5))
            assert not torch.is_grad_enabled()
        assert torch.equal(found, expected)
        assert found.requires_grad == expected.requires_grad
        if len(program.facts.residuals) == len(model) - 1:  # no other sums
            residue = program.transport(x(5)).residues[0]
            first = model.get_submodule("0")
            assert torch.allclose(residue, first(x(5)) - x(5), atol=1e-6)


def test_gradients_that_are_asked_for_where_they_are_switched_on() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            return y * 2 if torch.is_grad_enabled() else y

    with pytest.raises(TraceError, match=r"asks for torch\.is_grad_enabled\(\) in 0 \(Adds\) at"):
        program_of(net(branch))
    assert_exact(branch, Apart)

    def hands_back(m: Any, x: Tensor, y: Tensor) -> Any:
        with torch.enable_grad():
            before = torch.is_grad_enabled()
            torch.set_grad_enabled(False)
            target = m.linear(x)
            torch.set_grad_enabled(before)
            return y * target + m.linear(y)

    model = net(hands_back)
    program = program_of(model)
    assert_equal(program, model, x(5))
    with torch.no_grad():
        assert program(x(5)).requires_grad == model(x(5)).requires_grad


def test_a_compiler_follows_gradients_that_are_switched_on() -> None:
    model = net(with_gradients_of_linear)
    program = program_of(model)
    compiled = torch.compile(program, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x(5)), model(x(5)))
    torch._dynamo.reset()


def with_gradients_of_linear(m: Any, x: Tensor, y: Tensor) -> Any:
    with torch.enable_grad():
        return m.linear(y).relu()
