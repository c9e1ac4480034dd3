"""Code that writes what it decides by: taken where each call decides as the first, or refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fxtransport.errors import TraceError
from tests.tracing.blocks import Apart, Function, assert_equal, guarded, net, program_of, x


def window(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Cuts its window to the size of the input, and then shifts no more."""
    if x.shape[1] <= m.size:
        m.shift = 0
        m.size = min(x.shape[1:])
    if m.shift > 0:
        y = y.roll(m.shift, 1)
    return y.view(len(y), -1, m.size).flip(2).flatten(1)


def reads_twice(m: Any, x: Tensor, y: Tensor) -> Tensor:
    before = m.size
    m.size = 4
    return y * before + m.size * y.relu()


def keeps(m: Any, x: Tensor, y: Tensor) -> Tensor:
    if not m.on:
        y = y.relu()
    m.on = False
    return y * 2 if m.on else y


def sets_back(m: Any, x: Tensor, y: Tensor) -> Tensor:
    name, m.name = m.name, "tanh"
    y = getattr(y, m.name)()
    m.name = name
    return getattr(y, m.name)()


def clamps(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.size = max(m.size, 3)
    return y * 2 if m.size > 2 else y


def counts_up(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Decides by one number that it writes, and counts another."""
    m.step = m.step + 1
    return window(m, x, y * m.step)


STEADY: dict[str, Function] = {
    f.__name__: f for f in (window, reads_twice, keeps, sets_back, clamps, counts_up)
}


def block(function: Function, kind: Callable[..., Any] | None = None) -> Any:
    kinds = {} if kind is None else {"kind": kind}
    return net(function, size=10, shift=2, step=0, on=False, name="relu", **kinds)


@pytest.mark.parametrize("name", STEADY)
def test_calls_that_decide_alike(name: str) -> None:
    model = block(STEADY[name])
    program = program_of(model)
    for _ in range(3):
        assert_equal(program, model, x(5))
    for attribute in ("size", "shift", "step", "on", "name"):
        found = getattr(program.get_submodule("0"), attribute)
        assert found == getattr(model.get_submodule("0"), attribute)


def test_an_input_that_decides_otherwise_is_refused_when_run() -> None:
    model = net(window, size=8, shift=2)
    program = program_of(model, x(2))
    assert_equal(program, model, x(5))
    for path in ("0", "1"):
        program.get_submodule(path).size = model.get_submodule(path).size = 4
    assert "compile again" in guarded(program, model, x(5))


def counts_down(m: Any, x: Tensor, y: Tensor) -> Tensor:
    m.size = m.size - 1
    return y * 2 if m.size > 3 else y


def halves(m: Any, x: Tensor, y: Tensor) -> Tensor:
    """Takes another path in the second call only."""
    if m.size > 8:
        y = y * 2
    m.size = 5
    return y


def divides(m: Any, x: Tensor, y: Tensor) -> Tensor:
    if 6 % m.size == 6:
        y = y.relu()
    m.size = 0
    return y


def forgets(m: Any, x: Tensor, y: Tensor) -> Tensor:
    if m.size > 3:
        y = y.relu()
    m.size = None
    return y


@pytest.mark.parametrize("function", [counts_down, halves], ids=lambda f: f.__name__)
def test_calls_that_decide_otherwise(function: Any) -> None:
    with pytest.raises(TraceError, match=r"decides by self\.size and assigns it"):
        program_of(block(function))
    apart = block(function, Apart)
    assert_equal(program_of(apart), apart, x(5))


@pytest.mark.parametrize("function", [divides, forgets], ids=lambda f: f.__name__)
def test_calls_of_which_the_second_raises(function: Any) -> None:
    with pytest.raises(TraceError, match=r"decides by self\.size and assigns it"):
        program_of(block(function))
    model = block(function)
    model(x(2))
    with pytest.raises((ZeroDivisionError, TypeError)):
        model(torch.ones(2, 8))
