"""Tensors that follow from sizes alone: code may look at their values, which are guarded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import TraceError
from fxtransport.tracing.constants import Constants
from tests.tracing.blocks import (
    Adds,
    Apart,
    Closed,
    Function,
    assert_equal,
    check,
    guarded,
    net,
    program_of,
    x,
)


def window(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Rolls where some distance is large, as windowed attention does."""
    distance = (torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])[None]).abs()
    return y.roll(1, 1) if distance.max() > 4 else y * 2


KNOWN: dict[str, Function] = {
    "a decision": window,
    "item": lambda m, x, y: y * torch.arange(x.shape[1]).sum().item(),
    "tolist": lambda m, x, y: y * sum(torch.linspace(0, 1, x.shape[1]).tolist()),
    "nonzero": lambda m, x, y: y[:, (torch.arange(8) % 2).nonzero().flatten()].repeat(1, 2),
    "loop": lambda m, x, y: sum((y * i for i in torch.arange(3).tolist()), torch.zeros(())),
    "numpy": lambda m, x, y: y * float(torch.arange(x.shape[1]).numpy().sum()),
    "rates": lambda m, x, y: y * [r.item() for r in torch.linspace(0, 0.5, 3)][-1],
}
OF_NUMBERS: dict[str, Function] = {
    "float": lambda m, x, y: y * float(torch.tensor(0.5)),
    "int": lambda m, x, y: y * int(torch.tensor([3, 4]).prod()),
    "shapes in tensors": lambda m, x, y: y.view(-1, int(torch.tensor(x.shape[1:]).prod())),
    "mask": lambda m, x, y: y * torch.arange(8.0)[torch.arange(8) > 3].sum(),
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_values_that_follow_from_numbers(name: str) -> None:
    check(OF_NUMBERS[name])


@pytest.mark.parametrize("name", KNOWN)
def test_values_that_follow_from_sizes(name: str) -> None:
    check(KNOWN[name])


def test_sizes_that_such_values_follow_from_are_guarded() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * 2 if torch.arange(len(x)).sum() > 2 else y

    model = net(branch)
    program = program_of(model, x(2))
    assert "compile again" in guarded(program, model, x(5))


@pytest.mark.parametrize("made", ["of a parameter", "of the input", "random"])
def test_other_values_are_refused(made: str) -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        of = {"of a parameter": m.linear.weight, "of the input": x, "random": torch.rand(8)}
        return y * 2 if of[made].sum() > 0 else y

    with pytest.raises(Exception, match="data-dependent control flow"):
        program_of(net(branch))


def test_what_is_written_is_not_known_any_more() -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        mask = torch.zeros(8)
        view = mask[:4]
        view += x[0, :4]
        return y * 2 if mask.sum() > 0 else y

    with pytest.raises(Exception, match="data-dependent control flow"):
        program_of(net(branch))


def buffered(function: Function, kind: Any = Adds, value: Any = 3) -> nn.Module:
    """Blocks that hold a small tensor."""
    model = net(function, kind, plain=torch.tensor([2, 1]))
    for module in model.modules():
        if isinstance(module, Closed):
            module.register_buffer("held", torch.tensor(value))
    return model


HELD: dict[str, Function] = {
    "item": lambda m, x, y: y * m.held.item(),
    "a decision": lambda m, x, y: y * 2 if m.held > 1 else y,
    "arithmetic": lambda m, x, y: y.roll(int((m.held - 1) // 2 + x.shape[1]), 1),
    "an integer for torch": lambda m, x, y: nn.functional.pad(y, (m.held, 0))[:, :-3],
    "numpy": lambda m, x, y: y * float(m.plain.numpy().sum()),
    "tolist": lambda m, x, y: y.view(-1, *m.plain.tolist(), 4).flip(1).flatten(1),
    "a mask": lambda m, x, y: y * m.plain[m.plain > 1],
    "an attribute": lambda m, x, y: y * float(m.plain[1]),
    "written unasked": lambda m, x, y: y * (m.held + 1) + m.held.add_(1),
}


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("name", HELD)
def test_values_of_small_buffers(name: str, kind: Any) -> None:
    model = buffered(HELD[name], kind)
    assert_equal(program_of(model, x(2)), model, x(5))


@pytest.mark.parametrize("name", ["numpy", "__array__", "tolist", "item", "__bool__"])
def test_every_read_of_values_is_guarded(name: str) -> None:
    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        read = getattr(torch.arange(len(x)).sum() - 1, name)()
        return y * 2 if read else y

    model = net(branch)
    program = program_of(model, x(2))
    assert "compile again" in guarded(program, model, x(5))


def test_buffers_that_decide_are_guarded() -> None:
    model = buffered(HELD["a decision"])
    program = program_of(model, x(2))
    for owner in (model, program):
        owner.get_buffer("0.held").fill_(2)
    assert_equal(program, model, x(5))
    for owner in (model, program):
        owner.get_buffer("0.held").fill_(1)
    assert "compile again" in guarded(program, model, x(5))
    apart = buffered(HELD["a decision"], Apart)
    program = program_of(apart, x(2))
    for owner in (apart, program):
        owner.get_buffer("0.branch.held").fill_(1)
    assert_equal(program, apart, x(5))


def counts(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.held.add_(1)
    return y * 2 if m.held > 5 else y


def counts_later(m: Any, x: Tensor, y: Tensor) -> Tensor:
    y = y * 2 if m.held > 5 else y
    m.held.add_(1)
    return y


def counts_through_a_view(m: Any, x: Tensor, y: Tensor) -> Tensor:
    view = m.plain[:1]
    y = y * 2 if m.plain.sum() > 5 else y
    view += 1
    return y


def initializes(m: Any, x: Tensor, y: Tensor) -> Tensor:
    if not m.held.bool():
        with torch.no_grad():
            m.held.fill_(1)
            y = y * 2
    return y


@pytest.mark.parametrize("kind", [Adds, Apart])
@pytest.mark.parametrize("function", [counts, counts_later, counts_through_a_view, initializes])
def test_buffers_that_are_written_do_not_decide(function: Any, kind: Any) -> None:
    model = buffered(function, kind, value=0)
    with pytest.raises(TraceError, match="data-dependent control flow"):
        program_of(model, x(2))
    assert not model[0].state_dict()["held" if kind is Adds else "branch.held"].any()


def test_values_belong_to_one_tensor() -> None:
    known, tensor = Constants(), torch.empty(3, device="meta")
    assert known.real(tensor) is None
    known.add(tensor, torch.arange(3.0))
    found = known.real(tensor)
    assert found is not None
    assert found.tolist() == [0, 1, 2]
    assert known.real(tensor.clone()) is None
